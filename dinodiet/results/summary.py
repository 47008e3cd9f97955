"""How far a study is, and its main table: what `python -m dinodiet.results STUDY` and a finished sweep print."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from dinodiet.errors import UserError
from dinodiet.results.budgets import like, over_draws, picked
from dinodiet.results.budgets import notes as label_notes
from dinodiet.results.endings import Style
from dinodiet.results.plan import planned
from dinodiet.results.progress import running_lines
from dinodiet.results.record import CODE_BEFORE, evaluator_of, keys_of
from dinodiet.results.render import tables
from dinodiet.results.runs import Found, Run, named, read
from dinodiet.results.table import Layout, aggregate, layout
from dinodiet.results.tidy import Where, select, text, tidy
from dinodiet.store.grid import read_jobs
from dinodiet.store.queue import active_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import CellState, CellStatus, states

MOST = 20  # names a state, unless all are asked for


def main_table(study: Path) -> str:
    """Return the main table of a study, with what should be known about it; one line where nothing is finished."""
    try:
        found = read([study])
        content, notes = table(found)
    except UserError as error:
        return str(error)
    return "\n".join([content, *(f"note: {note}" for note in [*found.messages(), *notes])])


def table(
    found: Found, where: Where | None = None, style: Style = "text", **options: Iterable[str]
) -> tuple[str, list[str]]:
    """Return the main table of what was found and notes on it; `options` are those of `layout`."""
    cells, plan, notes = cells_of(found, where, **options)
    return tables(cells, plan, style), notes


def cells_of(
    found: Found, where: Where | None = None, labels: Iterable[str] = (), **options: Iterable[str]
) -> tuple[pd.DataFrame, Layout, list[str]]:
    """Return the cells of a table, its layout, and what should be known about it.

    `labels` are the budgets of labels to show, see `budgets.picked`; they are never averaged over.

    Raises:
        UserError: nothing is finished; an unknown column, metric, phase or filter.
    """
    if not found.runs:
        raise UserError(f"no finished run in {named(found.studies)}")
    waiting, wanted = planned(found)
    shown = picked(found.runs, list(labels))
    kept = select([*shown, *like(waiting, shown)], where or {})
    done = [run for run in kept if run.state == "done"]
    waiting = [run for run in kept if run.state != "done"]
    plan = layout(done, waiting, **{**options, "over": tuple(options.get("over", ())) or over_draws(done)})
    cells = aggregate(done, waiting, [run for run in done if (run.study, run.name) in wanted], plan)
    return (
        cells,
        plan,
        [*label_notes(found.runs, done), *setting_notes(done, plan), *gap_notes(done, plan), *code_notes(done)],
    )


def setting_notes(runs: Sequence[Run], plan: Layout) -> list[str]:
    """Name the settings of the shown scores that differ between runs: shown apart, or averaged over after all."""
    notes = []
    evals = {evaluator_of(metric) for metric in plan.metrics}
    for name in filter(lambda name: name.startswith(tuple(f"eval.{one}." for one in evals)), plan.choices):
        values = sorted({text(run.record.get(name)) for run in runs})
        if len(values) > 1:
            told = f"{name} = {', '.join(values)}"
            notes.append(f"scores were measured with different settings, which are kept apart: {told}")
    groups = {metric.removeprefix("val/").rpartition("/")[0] for metric in plan.metrics}
    for key in filter(lambda key: key.startswith("setting/"), keys_of(run.record for run in runs)):
        setting = key.removeprefix("setting/")
        if setting.rpartition("/")[0] in groups and not _chosen_by_runs(setting, runs):
            notes += _mixed(runs, plan, setting)
    return notes


def _chosen_by_runs(setting: str, runs: Sequence[Run]) -> bool:
    """Return whether runs choose a setting themselves, as the probe its C: the configuration gives no single value."""
    key = f"eval.{evaluator_of(setting)}.{setting.rpartition('/')[2]}"
    return not any(isinstance(run.record.get(key), (int, float)) for run in runs)


def _mixed(runs: Sequence[Run], plan: Layout, setting: str) -> list[str]:
    """Name the cells whose runs were scored with different values of a setting."""
    key, used = f"setting/{setting}", defaultdict(set)
    for run in runs:
        if key in run.record:
            used[tuple(map(run.record.get, plan.choices))].add(run.record[key])
    mixed = {", ".join(map(text, cell)): set(map(text, values)) for cell, values in used.items() if len(values) > 1}
    if not mixed:
        return []
    values = sorted(set.union(*mixed.values()))
    return [f"scores with different {setting} ({', '.join(values)}) are averaged in: {'; '.join(mixed)}"]


def gap_notes(runs: Sequence[Run], plan: Layout) -> list[str]:
    """Say which values were not finite, and which scores were left out by an evaluator."""
    notes = []
    scores = tidy(runs, plan.metrics, [])
    scores = scores[scores["phase"].isin(plan.phases) & (scores["phase"] != "change")]
    lost = scores.loc[scores["value"].isna(), "run"].unique()
    if len(lost):
        notes.append(f"no finite {', '.join(plan.metrics)} in {named(map(Path, lost))}: not in the means")
    evals = {metric.removeprefix("val/").rpartition("/")[0] for metric in plan.metrics}
    reasons = {
        (name, str(run.record["dataset"]), str(run.record[f"skipped/{name}"]))
        for run in runs
        for name in evals
        if f"skipped/{name}" in run.record
    }
    return notes + [f"{name} is left out on {dataset}: {reason}" for name, dataset, reason in sorted(reasons)]


def code_notes(runs: Sequence[Run]) -> list[str]:
    """Name the runs that one code began and another finished."""
    mixed = [run.path for run in runs if CODE_BEFORE in run.record]
    if not mixed:
        return []
    told = f"{len(mixed)} of {len(runs)} runs continued a checkpoint of other code"
    return [f"{told} (code_before in results.json): {named(mixed, 3)}"]


def status(study: Path, found: Found, most: int | None = MOST) -> str:
    """Return the count of each state, and by name the cells that are not done, with reason and log."""
    unreadable = {file.parent: reason for reason, files in found.problems.items() for file in files}
    cells = states(study, active=active_jobs() if read_jobs(study) else None, cells=found.grid(study))
    broken = [cell for cell in cells if unreadable and cell.directory in unreadable]
    others = [cell for cell in cells if not unreadable or cell.directory not in unreadable]
    counts = Counter(cell.state for cell in others)
    parts = [f"{counts[state]} {state.value}" for state in CellState if counts[state] or state is CellState.DONE]
    parts += [f"{len(broken)} unreadable"] if broken else []
    lines = [f"{study}: {len(cells)} runs: {', '.join(parts)}"]
    for state in CellState:
        these = [cell for cell in others if cell.state is state]
        if state is CellState.RUNNING:
            lines += _cut(state.value, running_lines(these), most, len(these))
        elif state is not CellState.DONE:
            lines += _lines(state.value, [(cell, _about(cell)) for cell in these], most)
    lines += _lines("unreadable", [(cell, unreadable[cell.directory]) for cell in broken], most)
    return "\n".join(lines)


def _lines(state: str, cells: list[tuple[CellStatus, str]], most: int | None) -> list[str]:
    return _cut(state, [f"{cell.run_id}{about and f'  {about}'}" for cell, about in cells], most, len(cells))


def _cut(state: str, texts: Sequence[str], most: int | None, count: int) -> list[str]:
    """Return at most so many lines of `count` runs; what follows them (a total) is kept."""
    shown = count if most is None else min(most, count)
    more = [f"and {count - shown} more; --status names all"] if shown < count else []
    return [f"  {state:<10} {text}" for text in [*texts[:shown], *more, *texts[count:]]]


def _about(cell: CellStatus) -> str:
    """Return the progress, the reason and where to read more."""
    run_dir = RunDir(cell.directory)
    progress = f"step {cell.step:,} of {cell.total_steps:,}" if cell.step is not None and cell.total_steps else ""
    job = f"job {cell.slurm_job}" if cell.slurm_job and cell.state in (CellState.QUEUED, CellState.HELD) else ""
    log = next((str(path) for path in (run_dir.log, run_dir.status) if path.exists()), "")
    return "; ".join(part for part in (job, progress, cell.reason, log) if part)
