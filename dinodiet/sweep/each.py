"""A grid of things to be done once each and not kept as runs: mode=views, sanity, evaluate, export and embed."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence

from dinodiet.errors import UserError, one_line
from dinodiet.sweep.drive import Launcher
from dinodiet.sweep.task import Task, execute


def run_each(tasks: Sequence[Task], launcher: Launcher) -> None:
    """Do every task in this process, one after another, and print which passed.

    Raises:
        UserError: some failed, all are named; or the launcher starts processes of its own.
    """
    mode = tasks[0].config["mode"]
    if not launcher.in_process:
        raise UserError(f"hydra/launcher: mode={mode} works in the process of the command alone; choose local")
    verdicts = [(task, _failure(task)) for task in tasks]
    failed = [task for task, failure in verdicts if failure is not None]
    _compared(mode, tasks)
    print(f"\n{mode}: {len(tasks) - len(failed)} of {len(tasks)} passed")
    for task, failure in verdicts:
        print(f"  {'passed' if failure is None else 'FAILED'}  {' '.join(task.cell.overrides)}" + _after(failure))
    if failed:
        raise UserError(f"mode={mode}: {len(failed)} of {len(tasks)} failed")


def _compared(mode: str, tasks: Sequence[Task]) -> None:
    """Print one table of all checks of a sanity check."""
    if mode == "sanity":
        from dinodiet.run.sanity import compared  # noqa: PLC0415 - torch, which the checks have needed

        if told := compared([task.settings(quiet=True) for task in tasks]):
            print(f"\n{told}")


def _failure(task: Task) -> str | None:
    """Do a task; return why it failed, or None."""
    try:
        execute(task)
    except UserError as error:
        print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
        return one_line(error)
    except Exception as error:
        traceback.print_exc()
        return f"{type(error).__name__}: {one_line(error)}"
    return None


def _after(failure: str | None) -> str:
    return "" if failure is None else f": {failure}"
