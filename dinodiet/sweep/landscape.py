"""Landscapes spread over the workers of a launcher: each part is a cell, with a status and a failure of its own."""

from __future__ import annotations

from collections.abc import Sequence

from dinodiet.store.grid import Cell
from dinodiet.store.states import CellState
from dinodiet.sweep.drive import Launcher, drive, statuses_of
from dinodiet.sweep.progress import summary
from dinodiet.sweep.task import Task


def run_landscapes(tasks: Sequence[Task], launcher: Launcher) -> None:
    """Measure what is missing of the landscapes, one after another, and write each; failed points are tried again.

    Raises:
        UserError: points are missing, which are named; or as the launcher.
        Preempted: the command was asked to stop.
    """
    from dinodiet.run.landscape.written import finish  # noqa: PLC0415 - torch, which only who measures needs

    for task in tasks:
        parts = parts_of(task)
        try:
            statuses = drive(parts, launcher, retry_failed=True)
        except BaseException:
            print(summary(str(parts[0].study), statuses_of(parts)), flush=True)
            raise
        if any(status.state is not CellState.DONE for status in statuses):
            print(f"\n{summary(str(parts[0].study), statuses)}", flush=True)
        finish(task.settings())


def parts_of(task: Task) -> list[Task]:
    """Return the parts of a landscape as cells of a grid of their own."""
    from dinodiet.run.landscape.landscape import part_names, parts_folder  # noqa: PLC0415

    settings = task.settings(quiet=True)
    study, cell = parts_folder(settings), task.cell
    return [
        Task(
            Cell(name, (*cell.overrides, f"landscape.part={number}"), cell.choices, cell.seed),
            study,
            {**task.config, "landscape": {**task.config["landscape"], "part": number}},
        )
        for number, name in enumerate(part_names(settings))
    ]
