"""mode=plan: what a grid would run, how much of it is done, and what its runs need. Nothing is run or downloaded."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tqdm import tqdm

from dinodiet.config.groups import BUDGET
from dinodiet.errors import UserError
from dinodiet.io.units import byte_size, count, duration
from dinodiet.store.scores import is_whole, read_scores
from dinodiet.store.states import CellState, CellStatus
from dinodiet.sweep.drive import statuses_of
from dinodiet.sweep.packing import Packing
from dinodiet.sweep.planning.estimate import Estimate, Estimator
from dinodiet.sweep.planning.expected import expected_lines
from dinodiet.sweep.planning.pace import Pace, Paces, device_here
from dinodiet.sweep.planning.packed import CONTEXT, check_together, together
from dinodiet.sweep.planning.shared_work import told as work_told
from dinodiet.sweep.progress import counts
from dinodiet.sweep.refused import refusal
from dinodiet.sweep.task import Task

BUDGETS = ("labels_per_class", "label_fraction")  # whose draws some seeds may not be able to fill
MOST = 8  # values of a key in one line
EXPLAINED = (
    "held: weights, gradients and optimiser state, heads and teacher included; peak: with activations, "
    "for a GPU's memory (on a CPU, libraries take about 1 GiB more)"
)
OF_EACH = "; of several processes that of the first, and no other takes more"


def plan(
    tasks: Sequence[Task], *, full: bool = False, packing: Packing | None = None, elsewhere: str | None = None
) -> str:
    """Return the plan of a grid: a line for runs that need the same (`full`: for every run), then totals.

    `elsewhere`: the kind of device, cuda or cpu, that the runs have on other machines; None: they are for this one.

    Raises:
        UserError: runs that cannot be built: all of them, each with its reason; or the `packing` does not fit into a
            GPU. The plan of the rest is printed.
    """
    statuses, estimates = statuses_of(tasks), estimates_of(tasks, elsewhere=elsewhere)
    needs = [_needs(status, found) for status, found in zip(statuses, estimates, strict=True)]
    cells = differing(tasks)
    groups = [[number] for number in range(len(tasks))] if full else alike(cells, needs)
    names = [named([cells[number] for number in group]) or tasks[group[0]].cell.run_id for group in groups]
    rows = [
        [_state([statuses[cell] for cell in group], estimates[group[0]]), name, *needs[group[0]]]
        for group, name in zip(groups, names, strict=True)
    ]
    sound = [
        (task, status, found)
        for task, status, found in zip(tasks, statuses, estimates, strict=True)
        if isinstance(found, Estimate)
    ]
    title = f"{tasks[0].study}: {len(tasks)} runs: {counts(statuses)}"
    folded = f"{EXPLAINED}; numbers are those of one run, plan=full lists every run"
    todo = {task.cell.run_id: found for task, status, found in sound if status.state is not CellState.DONE}
    shared = [] if packing is None else [_shared(packing, todo)]
    of_each = OF_EACH if any(found.each for *_, found in sound) else ""
    explained = (folded if len(groups) < len(tasks) else EXPLAINED) + of_each
    work = work_told((task, found.work) for task, _, found in sound)
    text = "\n".join([title, *_aligned(rows), *_totals(sound, elsewhere=elsewhere), work, *shared, explained])
    if len(sound) == len(tasks):
        _check(packing, todo, text)
        return text
    print(text, flush=True)
    refused: dict[str, list[tuple[str, int]]] = {}
    for name, group in zip(names, groups, strict=True):
        if isinstance(error := estimates[group[0]], UserError):
            refused.setdefault(str(error), []).append((name, len(group)))
    raise refusal(f"{len(tasks) - len(sound)} of {len(tasks)} runs cannot be built", refused)


Overrides = dict[str, str]


def differing(tasks: Sequence[Task]) -> list[Overrides]:
    """Return for every cell the overrides in which cells differ, by key."""
    cells = [dict(override.partition("=")[::2] for override in task.cell.overrides) for task in tasks]
    keys = dict.fromkeys(key for cell in cells for key in cell)
    kept = [key for key in keys if len({cell.get(key) for cell in cells}) > 1]
    return [{key: cell[key] for key in kept if key in cell} for cell in cells]


def alike(cells: Sequence[Overrides], needs: Sequence[Sequence[str]]) -> list[list[int]]:
    """Return groups of cells, by number, that need the same and are all combinations of some values of some keys."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for number, need in enumerate(needs):
        groups.setdefault(tuple(need), []).append(number)
    return sorted(part for group in groups.values() for part in _combinations(group, cells))


def _combinations(group: list[int], cells: Sequence[Overrides]) -> list[list[int]]:
    """Split a group by its first keys until each part is the product of its values: a name then says it whole."""
    values = _values([cells[number] for number in group])
    if math.prod(map(len, values.values())) == len(group):
        return [group]
    key = next(key for key, found in values.items() if len(found) > 1)
    parts: dict[str | None, list[int]] = {}
    for number in group:
        parts.setdefault(cells[number].get(key), []).append(number)
    return [smaller for part in parts.values() for smaller in _combinations(part, cells)]


def _values(cells: Sequence[Overrides]) -> dict[str, list[str | None]]:
    """Return the values of each key; None where a cell does not have it. The seed comes last."""
    keys = sorted(dict.fromkeys(key for cell in cells for key in cell), key=lambda key: key == "seed")
    return {key: list(dict.fromkeys(cell.get(key) for cell in cells)) for key in keys}


def named(cells: Sequence[Overrides]) -> str:
    """Return what tells a group of cells from the rest: `model=mae seed=0,1,2`."""
    values = _values(cells)
    return " ".join(f"{key}={_listed([one for one in found if one is not None])}" for key, found in values.items())


def _listed(values: Sequence[str]) -> str:
    """Return values with commas, whole numbers in a row as `0..9`; of many the first and the last."""
    if len(values) > 3 and all(value.isdigit() for value in values):
        numbers = sorted(map(int, values))
        if numbers[-1] - numbers[0] + 1 == len(set(numbers)):
            return f"{numbers[0]}..{numbers[-1]}"
    return ",".join(values) if len(values) <= MOST else f"{values[0]},..,{values[-1]} ({len(values)} values)"


def _state(statuses: Sequence[CellStatus], found: Estimate | UserError) -> str:
    """Return the state of a run, or the counts of the states of several."""
    if isinstance(found, UserError):
        return "refused" if len(statuses) == 1 else f"{len(statuses)} refused"
    return statuses[0].state.value if len(statuses) == 1 else counts(statuses)


def estimates_of(tasks: Sequence[Task], *, elsewhere: str | None = None) -> list[Estimate | UserError]:
    """Return what each run needs and takes, or why it cannot be built; what runs share is built once."""
    estimator, paces = Estimator(), Paces(elsewhere=elsewhere)
    found: dict[str, Estimate | UserError] = {}
    keys = [_sizes(task) for task in tasks]
    for task, key in tqdm(zip(tasks, keys, strict=True), "planning", len(keys), unit="run", leave=False, disable=None):
        if key in found:
            continue
        try:
            settings = task.settings()
            estimate = estimator(settings)
            pace = paces.of(settings)
            found[key] = replace(estimate, seconds=_training(pace, estimate.steps), pace=pace)
        except UserError as error:
            found[key] = error
    return [found[key] for key in keys]


def _training(pace: Pace | None, steps: int | None) -> float | None:
    """Return the seconds of so many steps; None: unknown."""
    if not steps or pace is None:
        return 0.0 if steps == 0 else None
    return steps * pace.step


def _sizes(task: Task) -> str:
    """Return what the size of a run depends on: its configuration; its seed only where labels are drawn for budgets."""
    budgets = [task.config[group].get(key) for group in ("eval", "dataset") for key in BUDGETS]
    seed = None if budgets == [None] * len(budgets) else task.config["seed"]
    return json.dumps([{**task.config, "seed": seed}, task.cell.choices], sort_keys=True)


def _needs(status: CellStatus, found: Estimate | UserError) -> list[str]:
    """Return what a run's line says after its name: a column each, and the last of any length."""
    if isinstance(found, UserError):
        return [str(found)]
    numbers = [
        f"{_number(found.steps)} steps",
        f"{'?' if found.parameters is None else count(found.parameters)} parameters",
        f"{'?' if found.trained is None else count(found.trained)} trained",
        f"{'?' if found.memory is None else byte_size(found.memory)} held",
        f"{'?' if found.peak is None else byte_size(found.peak)} peak",
        f"time {'?' if found.seconds is None else duration(found.seconds)}",
    ]
    at_step = f"at step {status.step:,}" if status.step and status.state is not CellState.DONE else None
    reason = None if status.state is CellState.DONE else status.reason
    return [*numbers, "; ".join(filter(None, (found.each, at_step, reason, found.note)))]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    whole = [row for row in rows if len(row) > 3] or rows
    widths = [max(len(row[column]) for row in whole) for column in range(len(whole[0]) - 1)]
    widths[0] = max(widths[0], len("refused"))
    return [
        "  "
        + "  ".join([*(word.ljust(width) for word, width in zip(row[:-1], widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]


Sound = Sequence[tuple[Task, CellStatus, Estimate]]  # runs that can be built


def _totals(runs: Sound, *, elsewhere: str | None) -> list[str]:
    """Return the sums over the runs that can be built: of steps, of time, and of evaluations."""
    steps = Counter[str]()
    for _, status, found in runs:
        steps["all"] += found.steps or 0
        if status.state is not CellState.DONE:
            steps["to do"] += (found.steps or 0) - (status.step or 0)
    unknown = sum(found.steps is None for *_, found in runs)
    more = f", and {unknown} runs of unknown length" if unknown else ""
    peaks = [found.peak for *_, found in runs if found.peak is not None]
    largest = f"; largest peak {byte_size(max(peaks))}" if peaks else ""
    counted = [(task, found.evaluations) for task, _, found in runs if found.evaluations is not None]
    evaluations = sum(number for _, number in counted)
    to_do = evaluations - sum(_scored(task) for task, _ in counted)
    uncounted = f"; runs not counted, whose labels are not here: {len(runs) - len(counted)}"
    return [
        f"{steps['all']:,} steps in all, {steps['to do']:,} of them to do{more}{largest}",
        *expected_lines([(status, found) for _, status, found in runs], _asked(runs, elsewhere=elsewhere)),
        f"{evaluations:,} evaluations in all, {to_do:,} of them to do{uncounted if len(counted) < len(runs) else ''}",
    ]


def _asked(runs: Sound, *, elsewhere: str | None) -> str:
    """Return the device that runs ask for, in words."""
    if elsewhere is not None or not runs:
        return "any CPU" if elsewhere == "cpu" else "any GPU"
    return device_here(runs[0][0].settings(quiet=True)) or "the device, which is not here"


def _shared(packing: Packing, todo: Mapping[str, Estimate]) -> str:
    """Return how runs share GPUs, and what those that need most take of one."""
    needs = together(packing, todo)
    told = packing.told(len(todo))
    if packing.runs_per_gpu == 1 or not needs:
        return told
    there = "" if packing.memory is None else f" of {byte_size(packing.memory)}"
    most = f"the {len(needs)} that need most take {byte_size(sum(needs.values()))}{there}"
    return f"{told}; {most}, with {byte_size(CONTEXT)} each for CUDA itself"


def _check(packing: Packing | None, todo: Mapping[str, Estimate], text: str) -> None:
    """Print the plan and refuse it where its packing does not fit."""
    try:
        if packing is not None:
            check_together(packing, todo)
    except UserError:
        print(text, flush=True)
        raise


def _scored(task: Task) -> int:
    """Return how many of the evaluations that a run asks for are in its directory."""
    wanted, once = set(task.wanted), {key.partition(BUDGET)[0] for key in task.wanted}
    there = [scores for scores in read_scores(task.run_dir) if is_whole(scores, validation=task.validation)]
    return sum(scores.key in (wanted if scores.fits_labels else once) for scores in there)


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"
