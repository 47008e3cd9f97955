"""Why runs did not finish: state, reason, the ends of traceback and log, and the command that continues them."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dinodiet.config.places import ROOT
from dinodiet.errors import UserError, printable
from dinodiet.results.locate import is_run
from dinodiet.results.one_run import LAST_LINES, error_lines
from dinodiet.results.runs import read
from dinodiet.store.grid import Cell, read_grid, read_jobs
from dinodiet.store.queue import active_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import IN_WORK, CellState, CellStatus, state_of, states

GOES_ON = tuple(
    state.value for state in (CellState.DONE, *IN_WORK, CellState.MISSING)
)  # of runs that did not end early
LARGEST_LOG = 20_000  # bytes at the end of a log of which the last lines are shown
MOST_NAMED = 10  # runs of one reason


def why(paths: Sequence[Path | str]) -> str:
    """Return a block for each run directory, and for each reason for which runs of a study ended early.

    Raises:
        UserError: no such path, or nothing below it is a run or a study.
    """
    return "\n\n".join(block for path in paths for block in _blocks(Path(path)))


def _blocks(path: Path) -> Iterator[str]:
    if is_run(str(path)):
        path = path if path.name else path.absolute()  # of `.`
        study = path.absolute().parent
        jobs = read_jobs(study)
        status = state_of(RunDir(path), job=jobs.get(path.name), active=active_jobs() if jobs else None)
        yield _told([status], _unreadable([path]), _cells(study))
        return
    found = read([path])
    if not found.studies:
        raise UserError(f"{path}: no runs there; give a study (outputs/<name>) or a run directory")
    broken = {file.parent: reason for reason, files in found.problems.items() for file in files}
    for study in found.studies:
        yield from _of_study(study, broken)


def _of_study(study: Path, broken: dict[Path, str]) -> Iterator[str]:
    """Yield how many runs of a study ended early, and a block for each reason."""
    statuses = states(study, active=active_jobs() if read_jobs(study) else None)
    groups: dict[tuple[str, str], list[CellStatus]] = {}
    for status in statuses:
        if status.state.value not in GOES_ON or status.directory in broken:
            reason = broken.get(status.directory) or status.reason or ""
            groups.setdefault((status.state.value, re.sub(r"\d+", "#", reason)), []).append(status)
    counts = Counter(status.state.value for status in statuses if status.directory not in broken)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    unreadable = f", {len(broken)} unreadable" if broken else ""
    if not groups:
        yield f"{study}: {len(statuses)} runs: {told}: none has failed"
        return
    yield f"{study}: {len(statuses)} runs: {told}{unreadable}; why they ended, by reason:"
    cells = _cells(study)
    for alike in sorted(groups.values(), key=len, reverse=True):
        yield _told(alike, broken, cells)


def _cells(study: Path) -> dict[str, Cell]:
    return {cell.run_id: cell for cell in read_grid(study)}


def _unreadable(paths: Iterable[Path]) -> dict[Path, str]:
    found = read(paths)
    return {file.parent.absolute(): reason for reason, files in found.problems.items() for file in files}


def _told(alike: Sequence[CellStatus], broken: dict[Path, str], cells: dict[str, Cell]) -> str:
    """Return what is known of runs that ended for one reason; details are those of the first."""
    first = alike[0]
    if reason := broken.get(first.directory) or broken.get(first.directory.absolute()):
        state, reasons = "unreadable", [f"results.json: {reason}"]
    else:
        state, reasons = first.state.value, [first.reason] if first.reason else []
    lines = [f"{first.directory}: {_progress(first, state)}"]
    if others := [status.run_id for status in alike[1:]]:
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        lines.append(f"  and {len(others)} alike: {', '.join(others[:MOST_NAMED])}{more}")
    lines += [f"  reason: {printable(one)}" for one in reasons]
    if state not in GOES_ON:
        lines += [*_ends(first), f"  to continue: {command_of(first, cells)}"]
    return "\n".join(lines)


def _progress(status: CellStatus, state: str) -> str:
    step = f", step {status.step:,} of {status.total_steps:,}" if status.step is not None and status.total_steps else ""
    job = f" as job {status.slurm_job}" if status.slurm_job else ""
    told = {
        CellState.DONE.value: "it finished, nothing has failed",
        CellState.RUNNING.value: f"it goes on{step}",
        CellState.QUEUED.value: f"it waits{job}",
        CellState.HELD.value: f"it is kept from starting{job}; mode=release lets it start",
        CellState.MISSING.value: "it has not begun",
    }
    phase = f", {status.phase}" if status.phase else ""
    return f"{state}: {told[state]}" if state in told else f"{state}{phase}{step}"


def _ends(status: CellStatus) -> list[str]:
    """Return the ends of the traceback and of the log, and where the whole log is."""
    lines = [line for line in error_lines(status) if line != status.reason]
    told = ["  the end of its traceback:", *(f"    {line}" for line in lines)] if lines else []
    logs = logs_of(status)
    for log in logs[:1]:
        if last := [line for line in _last_lines(log) if line not in lines]:
            told += ["  the end of its log:", *(f"    {line}" for line in last)]
    return [*told, *(f"  log: {log.absolute()}" for log in logs)] or ["  log: none was written"]


def logs_of(status: CellStatus) -> list[Path]:
    """Return the logs that a run has: its own, and those of its SLURM job."""
    job = str(status.slurm_job or "")
    folders = [status.study / ".sweep" / "jobs" / name for name in dict.fromkeys((job, job.partition("_")[0])) if name]
    jobs = [file for folder in folders for end in ("err", "out") for file in sorted(folder.glob(f"{job}_*.{end}"))]
    return [log for log in (RunDir(status.directory).log, *jobs) if log.is_file() and log.stat().st_size]


def _last_lines(log: Path) -> list[str]:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - LARGEST_LOG))
            text = stream.read().decode(errors="backslashreplace")
    except OSError:
        return []
    lines = re.split(r"[\n\r]", text)  # bars are drawn again over themselves
    return [printable(line.expandtabs(4).rstrip()) for line in lines if line.strip()][-LAST_LINES:]


def command_of(status: CellStatus, cells: dict[str, Cell]) -> str:
    """Return the command that continues a run: what its grid says of it, as a single run."""
    program = "python launch.py" if (ROOT / "launch.py").exists() else "dinodiet"
    cell = cells.get(status.run_id)
    if cell is None:
        return "the command that began it, given again"
    return f"{program} {shlex.join(cell.overrides)}"
