"""mode=hold and mode=release: jobs of a grid that wait are kept from starting, and let go again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dinodiet.errors import UserError
from dinodiet.store import queue as slurm_queue
from dinodiet.store.states import CellState
from dinodiet.sweep.drive import statuses_of
from dinodiet.sweep.progress import counts, summary
from dinodiet.sweep.task import Task


def hold(tasks: Sequence[Task]) -> None:
    """Keep the jobs of a grid that wait from starting; runs that are at work go on. Print the states.

    Raises:
        UserError: nothing waits, or SLURM did not do it.
    """
    _do(tasks, "hold", CellState.QUEUED, slurm_queue.hold)


def release(tasks: Sequence[Task]) -> None:
    """Let the jobs of a grid start that were held, and print the states.

    Raises:
        UserError: nothing is held, or SLURM did not do it.
    """
    _do(tasks, "release", CellState.HELD, slurm_queue.release)


def _do(tasks: Sequence[Task], mode: str, before: CellState, do: Callable[[Sequence[str]], bool]) -> None:
    statuses = statuses_of(tasks)
    jobs = sorted({status.slurm_job for status in statuses if status.state is before and status.slurm_job})
    if not jobs:
        raise UserError(f"mode={mode}: no run of this grid is {before.value} ({counts(statuses)})")
    do(jobs)
    statuses = statuses_of(tasks)
    print(summary(str(tasks[0].study), statuses), flush=True)
    if still := [status.run_id for status in statuses if status.state is before and status.slurm_job in jobs]:
        raise UserError(f"mode={mode}: SLURM left {len(still)} runs {before.value}, such as {still[0]}")


QUEUE_MODES: dict[str, Callable[[Sequence[Task]], None]] = {"hold": hold, "release": release}
