"""mode=plan: what a grid would run, how much of it is done, and what each run needs. Nothing is run or downloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tqdm import tqdm

from dinodiet.errors import UserError
from dinodiet.io.units import byte_size, count
from dinodiet.store.states import CellState, CellStatus
from dinodiet.sweep.drive import statuses_of
from dinodiet.sweep.planning.estimate import Estimate, Estimator
from dinodiet.sweep.progress import counts
from dinodiet.sweep.task import Task

EXPLAINED = (
    "held: weights, gradients and optimiser state, heads and teacher included; peak: with activations, "
    "for a GPU's memory (on a CPU, libraries take about 1 GiB more)"
)


def plan(tasks: Sequence[Task]) -> str:
    """Return the plan of a grid: a line a run, then totals.

    Raises:
        UserError: runs that cannot be built: all of them, each with its reason. The plan of the rest is printed.
    """
    statuses, names = statuses_of(tasks), varying(tasks)
    estimates = _estimates(tasks)
    sound = [(status, found) for status, found in zip(statuses, estimates, strict=True) if isinstance(found, Estimate)]
    title = f"{tasks[0].study}: {len(tasks)} runs: {counts(statuses)}"
    rows = [_row(*row) for row in zip(statuses, names, estimates, strict=True)]
    text = "\n".join([title, *_aligned(rows), *_totals(sound), EXPLAINED])
    refused = [f"{name}: {found}" for name, found in zip(names, estimates, strict=True) if isinstance(found, UserError)]
    if refused:
        print(text, flush=True)
        raise UserError(f"{len(refused)} of {len(tasks)} runs cannot be built: {'; '.join(refused)}")
    return text


def varying(tasks: Sequence[Task]) -> list[str]:
    """Return for every cell the overrides in which cells differ, `model=mae seed=1`; a cell alone by its run id."""
    cells = [dict(override.partition("=")[::2] for override in task.cell.overrides) for task in tasks]
    keys = dict.fromkeys(key for cell in cells for key in cell)
    differing = [key for key in keys if len({cell.get(key) for cell in cells}) > 1]
    if not differing:
        return [task.cell.run_id for task in tasks]
    columns = [[f"{key}={cell[key]}" if key in cell else "" for cell in cells] for key in differing]
    return [" ".join(filter(None, words)) for words in zip(*columns, strict=True)]


def _estimates(tasks: Iterable[Task]) -> list[Estimate | UserError]:
    estimator = Estimator()
    found: list[Estimate | UserError] = []
    for task in tqdm(tasks, "planning", unit="run", leave=False, disable=None):
        try:
            found.append(estimator(task.config))
        except UserError as error:
            found.append(error)
    return found


def _row(status: CellStatus, name: str, found: Estimate | UserError) -> list[str]:
    """Return the words of a run's line: a column each, and the last of any length."""
    if isinstance(found, UserError):
        return ["refused", name, str(found)]
    numbers = [
        f"{_number(found.steps)} steps",
        f"{'?' if found.parameters is None else count(found.parameters)} parameters",
        f"{'?' if found.trained is None else count(found.trained)} trained",
        f"{'?' if found.memory is None else byte_size(found.memory)} held",
        f"{'?' if found.peak is None else byte_size(found.peak)} peak",
    ]
    at_step = f"at step {status.step:,}" if status.step and status.state is not CellState.DONE else None
    reason = None if status.state is CellState.DONE else status.reason
    return [status.state.value, name, *numbers, "; ".join(filter(None, (at_step, reason, found.note)))]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    whole = [row for row in rows if len(row) > 3] or rows
    widths = [max(len(row[column]) for row in whole) for column in range(len(whole[0]) - 1)]
    widths[0] = max(widths[0], len("refused"))
    return [
        "  "
        + "  ".join([*(word.ljust(width) for word, width in zip(row[:-1], widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


def _totals(runs: Sequence[tuple[CellStatus, Estimate]]) -> list[str]:
    """Return the sums over the runs that can be built."""
    steps = Counter[str]()
    for status, found in runs:
        steps["all"] += found.steps or 0
        if status.state is not CellState.DONE:
            steps["to do"] += (found.steps or 0) - (status.step or 0)
    unknown = sum(found.steps is None for _, found in runs)
    beside = f", and {unknown} runs of unknown length" if unknown else ""
    return [f"{steps['all']:,} steps in all, {steps['to do']:,} of them to do{beside}"]


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
