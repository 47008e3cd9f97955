"""Cells that left the grid of a study: their jobs are cancelled where the user says so, and named otherwise."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from dinodiet.errors import UserError
from dinodiet.store import queue as slurm_queue
from dinodiet.store.grid import read_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import IN_WORK, state_of
from dinodiet.sweep.drive import note_death
from dinodiet.sweep.task import Task

MOST_NAMED = 5
SECONDS = 60.0  # for a run to write its checkpoint and leave


def prune(tasks: Sequence[Task], *, unasked: bool) -> None:
    """Cancel jobs of the study that wait or run for cells that are not in its grid any more. Results stay.

    A terminal is asked, unless `unasked`; without one, and without a yes, they are named and left.

    Raises:
        UserError: SLURM did not cancel them.
    """
    study = tasks[0].study
    left = _left(study, {task.cell.run_id for task in tasks})
    if not left:
        return
    runs = [run for these in left.values() for run in these]
    more = f" and {len(runs) - MOST_NAMED} more" if len(runs) > MOST_NAMED else ""
    told = f"{len(runs)} runs that left the grid still wait or run: {', '.join(runs[:MOST_NAMED])}{more}"
    if not unasked and not _confirms(told):
        print(f"{told}; prune=true cancels them", flush=True)
        return
    _cancel(study, left)
    print(f"cancelled {len(left)} SLURM jobs of {told}", flush=True)


def _left(study: Path, wanted: set[str]) -> dict[str, list[str]]:
    """Return the runs that are not wanted any more by their active job; of a job that others share, none."""
    jobs = read_jobs(study)
    if not jobs.keys() - wanted:
        return {}
    active = slurm_queue.active_jobs() or {}
    shared = {job for run, job in jobs.items() if run in wanted}
    found: dict[str, list[str]] = {}
    for run, job in jobs.items():
        if job in active.keys() - shared and state_of(RunDir(study / run), job=job, active=active).state in IN_WORK:
            found.setdefault(job, []).append(run)
    return found


def _confirms(told: str) -> bool:
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        return False
    try:
        return input(f"{told}\nCancel their jobs? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _cancel(study: Path, left: dict[str, list[str]]) -> None:
    """Cancel jobs, wait until they are gone, and note why in the directories of their runs."""
    slurm_queue.cancel(left)
    deadline = time.monotonic() + SECONDS
    while there := left.keys() & (slurm_queue.active_jobs() or left).keys():
        if time.monotonic() > deadline:
            raise UserError(f"prune: SLURM has not cancelled {', '.join(sorted(there))}; try again")
        time.sleep(0.5)
    for job, runs in left.items():
        for run in runs:
            if not (run_dir := RunDir(study / run)).results.exists():
                note_death(run_dir, f"it left the grid; its SLURM job {job} was cancelled")
