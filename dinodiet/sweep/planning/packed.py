"""Whether runs that share a GPU fit into its memory together, by what each is predicted to need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

from dinodiet.errors import UserError
from dinodiet.io.units import byte_size
from dinodiet.store.states import CellState
from dinodiet.sweep.drive import statuses_of
from dinodiet.sweep.packing import Packing
from dinodiet.sweep.planning.estimate import Estimate, Estimator
from dinodiet.sweep.task import Task

CONTEXT = 2**29  # bytes of a GPU that CUDA and its libraries take in each process, beside all tensors
MOST_NAMED = 3


def check_packing(tasks: Sequence[Task], packing: Packing) -> None:
    """Refuse a packing that cannot fit, before anything is started. Runs that are done are not counted.

    Raises:
        UserError: as `check_together`.
    """
    todo = [task for task, status in zip(tasks, statuses_of(tasks), strict=True) if status.state is not CellState.DONE]
    estimator = Estimator()
    check_together(packing, {task.cell.run_id: _estimated(estimator, task) for task in todo})


def check_together(packing: Packing, estimates: Mapping[str, Estimate | None]) -> None:
    """Refuse a packing under which the runs that need most do not fit into a GPU's memory together.

    Any of the runs may come together: one that is continued later has other neighbours. What is unknown is left out.

    Raises:
        UserError: one line that names the largest runs, and how many runs fit.
    """
    needs = together(packing, estimates)
    if packing.memory is None or not packing.is_limited or sum(needs.values()) <= packing.memory:
        return
    fit = sum(needed <= packing.memory for needed in accumulate(needs.values()))
    largest = ", ".join(f"{name} ({byte_size(need)})" for name, need in list(needs.items())[:MOST_NAMED])
    advice = f"set runs_per_gpu={fit}" if fit else "not even the largest fits alone: let it need less"
    raise UserError(
        f"hydra.launcher.runs_per_gpu: {len(needs)} runs at a time take about {byte_size(sum(needs.values()))} of a "
        f"GPU with {byte_size(packing.memory)} ({byte_size(CONTEXT)} each for CUDA itself); the largest: {largest}; "
        f"{advice}"
    )


def together(packing: Packing, estimates: Mapping[str, Estimate | None]) -> dict[str, int]:
    """Return what the runs that need most take of one GPU that they share, in bytes by name, the largest first."""
    needs = {name: need for name, found in estimates.items() if (need := _need(found)) is not None}
    largest = sorted(needs, key=lambda name: -needs[name])[: packing.runs_per_gpu]
    return {name: needs[name] for name in largest}


def _need(found: Estimate | None) -> int | None:
    """Return the bytes that a run's process takes of a GPU; None where that is unknown."""
    known = None if found is None else found.peak or found.memory
    return None if known is None else known + CONTEXT


def _estimated(estimator: Estimator, task: Task) -> Estimate | None:
    try:
        return estimator(task.settings(quiet=True))
    except UserError:  # the run itself says what is wrong with it
        return None
