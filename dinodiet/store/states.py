"""The states of a study's cells, read from their directories and from SLURM's queue."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

from dinodiet.io.locks import is_locked
from dinodiet.store.grid import Cell, read_grid, read_jobs, submit_lock
from dinodiet.store.queue import active_jobs, is_held
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import HEARTBEAT_SECONDS, State, read_status, was_lost, works_here

PROGRESS = ("step", "total_steps", "phase", "loss", "images_per_second", "seconds_left")  # of status.json
ENDED = (State.KILLED.value, State.STOPPED.value)  # no job continues these, also where one with other runs is active
GONE = "its SLURM job is gone"
SILENT_SECONDS = 6 * HEARTBEAT_SECONDS  # a run that has not been heard of for so long is dead


class CellState(str, Enum):
    """The states of a cell. `stopped`: killed or preempted, and nothing continues it without a new command.

    `held`: queued, and kept from starting; `blocked`: not started, as its weights or data could not be had.
    """

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    HELD = "held"
    FAILED = "failed"
    STOPPED = "stopped"
    BLOCKED = "blocked"
    MISSING = "missing"


IN_WORK = (CellState.RUNNING, CellState.QUEUED, CellState.HELD)
OPEN = (CellState.MISSING, CellState.STOPPED, CellState.BLOCKED)  # a command takes these up


@dataclass(frozen=True)
class CellStatus:
    """The state and progress of one cell.

    Attributes:
        run_id: name of the run directory.
        state: see `CellState`.
        reason: why it failed or stopped, in one line.
        step, total_steps: progress of the training, where it is known.
        slurm_job: id of its SLURM job, such as 12_3.
        study: `outputs/<name>`.
        phase: what the run does or did last, such as `training`.
        loss, images_per_second, seconds_left: of the training, at the last log line.
    """

    run_id: str
    state: CellState
    study: Path
    reason: str | None = None
    step: int | None = None
    total_steps: int | None = None
    slurm_job: str | None = None
    phase: str | None = None
    loss: float | None = None
    images_per_second: float | None = None
    seconds_left: float | None = None

    @property
    def directory(self) -> Path:
        """The run directory, which may not exist yet."""
        return self.study / self.run_id


def states(
    study: Path,
    *,
    active: Collection[str] | None = None,
    now: float | None = None,
    cells: Iterable[Cell] | None = None,
) -> list[CellStatus]:
    """Return the state of every cell of a study: those of its newest grid first, then other run directories.

    A cell whose job seems to be gone may have been submitted since `active` was asked for: it is looked at again.

    Args:
        study: `outputs/<name>`.
        active: ids of the SLURM jobs that wait or run, perhaps with why; None: SLURM was not asked, and the files are
            believed.
        now: seconds since the epoch; None: the clock's.
        cells: of its newest grid; None: they are read.
    """
    jobs = read_jobs(study)

    def judged(run_id: str) -> CellStatus:
        if os.path.exists(f"{study}/{run_id}/results.json"):  # noqa: PTH110 - most of ten thousand are done
            return CellStatus(run_id, CellState.DONE, study, slurm_job=jobs.get(run_id))
        return state_of(RunDir(study / run_id), job=jobs.get(run_id), active=active, now=now)

    found = [judged(run_id) for run_id in _run_ids(study, read_grid(study) if cells is None else cells)]
    return _looked_at_again(study, found) if any(cell.reason == GONE for cell in found) else found


def _looked_at_again(study: Path, found: list[CellStatus]) -> list[CellStatus]:
    """Return states in which cells that are being submitted, or were just now, are queued."""
    if is_locked(submit_lock(study)):
        return [replace(one, state=CellState.QUEUED, reason=None) if one.reason == GONE else one for one in found]
    active, jobs = active_jobs(), read_jobs(study)
    if active is None:
        return found
    return [
        state_of(RunDir(one.directory), job=jobs.get(one.run_id), active=active) if one.reason == GONE else one
        for one in found
    ]


def _run_ids(study: Path, cells: Iterable[Cell]) -> Iterator[str]:
    planned = [cell.run_id for cell in cells]
    yield from planned
    known = set(planned)
    if study.is_dir():
        for name in sorted(os.listdir(study)):  # noqa: PTH208 - strings sort faster: a study may hold ten thousand
            if name not in known and not name.startswith(".") and _is_run(RunDir(study / name)):
                yield name


def _is_run(run_dir: RunDir) -> bool:
    return run_dir.results.exists() or run_dir.status.exists()


def state_of(
    run_dir: RunDir,
    *,
    job: str | None = None,
    active: Collection[str] | None = None,
    now: float | None = None,
    settings: str | None = None,
) -> CellStatus:
    """Return the state of the run in a directory.

    Args:
        run_dir: the directory.
        job: the SLURM job that the run was handed to.
        active, now: as in `states`.
        settings: hash of the settings that it would be started with now. A failure belongs to the settings that it
            happened with: under others the run is stopped, and can be started again.
    """
    name, study = run_dir.path.name, run_dir.path.parent
    if run_dir.results.exists():
        return CellStatus(name, CellState.DONE, study, slurm_job=job)
    status = read_status(run_dir)
    if status is None:
        return CellStatus(name, CellState.MISSING, study, slurm_job=job)
    job = job or status.get("slurm_job")
    waits = job is not None and (active is None or job in active)
    now = time.time() if now is None else now
    state, reason = _judge(status, waits, active is not None, _death(run_dir, status, now))
    if state is CellState.QUEUED and isinstance(active, Mapping) and is_held(active.get(job or "", "")):
        state = CellState.HELD
    if state is CellState.FAILED and settings is not None and status.get("settings") not in (None, settings):
        state, reason = CellState.STOPPED, f"failed with other settings: {reason}"
    return CellStatus(name, state, study, reason, slurm_job=job, **{key: status.get(key) for key in PROGRESS})


def _judge(status: dict[str, Any], waits: bool, asked: bool, death: str | None) -> tuple[CellState, str | None]:
    """Return the state that `status.json` means; `waits`: SLURM has its job, `asked`: SLURM was asked."""
    state, reason = status["state"], status.get("reason")
    if state in (State.FAILED.value, State.BLOCKED.value):
        return CellState(state), reason
    if state == State.RUNNING.value:
        if death is None and (waits or not asked or status.get("slurm_job") is None):
            return CellState.RUNNING, None
        reason = death or f"its SLURM job {status.get('slurm_job')} is gone"
    if waits and (state not in ENDED or was_lost(status)) and (asked or state == State.QUEUED.value):
        return CellState.QUEUED, reason
    return CellState.STOPPED, reason or GONE


def _death(run_dir: RunDir, status: dict[str, Any], now: float) -> str | None:
    """Return why a run that calls itself running is dead, or None where it may live."""
    silent = now - (status.get("heartbeat") or 0.0)
    if silent > SILENT_SECONDS:
        return f"killed: not heard of for {silent:.0f} s"
    if status.get("host") == socket.gethostname() and status.get("pid") == os.getpid() and not works_here(run_dir):
        return "ended; its status could not be written"
    if status.get("host") == socket.gethostname() and not _alive(status.get("pid")):
        return f"killed: process {status.get('pid')} is gone"
    return None


def _alive(pid: Any) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, TypeError, OverflowError):
        return True
    return True
