"""A grid of runs from its check to its table."""

from __future__ import annotations

from collections.abc import Sequence

from dinodiet.errors import UserError
from dinodiet.store.states import OPEN, CellState, CellStatus
from dinodiet.sweep.drive import Launcher, drive, statuses_of
from dinodiet.sweep.packing import packing_of
from dinodiet.sweep.progress import summary
from dinodiet.sweep.prune import prune
from dinodiet.sweep.task import Task


def run_grid(tasks: Sequence[Task], launcher: Launcher) -> None:
    """Run what is missing of a grid, then print the states of its runs and the main table, also when it was stopped.

    Raises:
        UserError: runs did not finish, which the printed summary names; or those that share a GPU cannot fit into it.
        Preempted: the command was asked to stop.
    """
    study, asked = tasks[0].study, tasks[0].config
    if (packing := packing_of(launcher)) is not None and packing.is_limited:
        from dinodiet.sweep.planning.packed import check_packing  # noqa: PLC0415 - it builds models: needs torch

        check_packing(tasks, packing)
    prune(tasks, unasked=asked["prune"])
    check_inputs = asked["check_inputs"] and not launcher.in_process
    try:
        statuses = drive(tasks, launcher, retry_failed=asked["retry"] == "failed", check_inputs=check_inputs)
    except BaseException:
        print(summary(str(study), statuses_of(tasks)), flush=True)
        raise
    print(f"\n{summary(str(study), statuses)}", flush=True)
    if any(status.state is CellState.DONE for status in statuses):
        from dinodiet.results import main_table  # noqa: PLC0415 - pandas, where there is a table

        print(f"\n{main_table(study)}", flush=True)
    _tell_lost(statuses)


def _tell_lost(statuses: Sequence[CellStatus]) -> None:
    """Tell how to go on where runs did not finish.

    Raises:
        UserError: they did not.
    """
    lost = [status.state for status in statuses if status.state in (CellState.FAILED, *OPEN)]
    if not lost:
        return
    how = "the same command continues those that stopped"
    how += "; it looks again for what blocks runs" if CellState.BLOCKED in lost else ""
    how += "; retry=failed runs failed ones again" if CellState.FAILED in lost else ""
    raise UserError(f"{len(lost)} of {len(statuses)} runs did not finish: {how}")
