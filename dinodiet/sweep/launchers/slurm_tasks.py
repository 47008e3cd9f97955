"""What the tasks of a SLURM job do that are one run: each starts and watches one process of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dinodiet.processes.place import Place, task_in
from dinodiet.run.reports import TaskReports
from dinodiet.run.spawn import in_own_process
from dinodiet.store.status import record_ending, slurm_job
from dinodiet.sweep.task import Task


def place_in_job(task: Task) -> Place | None:
    """Return which of how many tasks of the job this one is; None where it is the only one.

    A requeued job, or another one, meets in another file: what an earlier one left is never read.
    """
    name = (slurm_job(), os.environ.get("SLURM_RESTART_COUNT", "0"), os.environ.get("SLURM_JOB_START_TIME", "0"))
    return task_in(os.environ, task.study / ".sweep" / "tasks" / "-".join(map(str, name)) / "address.json")


def run_part(task: Task, place: Place) -> None:
    """Do the part of a run that is this task's.

    Raises:
        Exception: as `dinodiet.run.run.run`, in all tasks; the run directory says the same.
    """
    assert isinstance(place.rendezvous, Path)
    folder = place.rendezvous.parent
    try:
        in_own_process(_take_part, task, place, task.run_dir.path, TaskReports(folder, place.rank))
    except Exception as error:
        if place.rank == 0:
            record_ending(task.run_dir, error)
        raise
    if place.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)


def _take_part(task: Task) -> None:
    from dinodiet.processes.gathering import rank  # noqa: PLC0415 - who watches needs no torch
    from dinodiet.run.run import take_part  # noqa: PLC0415

    take_part(task.settings(quiet=rank() > 0))
