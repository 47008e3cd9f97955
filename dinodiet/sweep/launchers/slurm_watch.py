"""Watching the SLURM jobs of runs: the queue and the run directories, until all have ended or are named as lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from filelock import FileLock

from dinodiet.errors import UserError, one_line
from dinodiet.store import queue as slurm_queue
from dinodiet.store.grid import read_jobs, submit_lock
from dinodiet.store.states import IN_WORK, CellState, CellStatus
from dinodiet.store.status import State, read_status, was_lost
from dinodiet.sweep.drive import note_death, statuses_of
from dinodiet.sweep.progress import Progress
from dinodiet.sweep.task import Task

RESUBMISSIONS = 2  # of a run whose process was killed without SLURM requeueing it, such as with its node
UNENDED = ("PENDING", "RUNNING", "COMPLETING")
FINAL = ("CANCELLED", "OUT_OF_MEMORY")  # endings that another job would not mend
LOST_POLLS = 3  # a job that left the queue is given so many looks for its results to appear on this machine's disk
SLOWEST_POLL_SECONDS = 60.0


@dataclass(eq=False)
class _Watched:
    task: Task
    job: str | None
    looks_left: int = LOST_POLLS
    resubmissions_left: int = RESUBMISSIONS


class JobWatch:
    """Watches the jobs of runs.

    Args:
        submit: submits tasks of one study; called again with those that were killed without notice.
        poll_seconds: how often the queue is looked at, at first; the pace slows down to a minute.
    """

    def __init__(self, submit: Callable[[Sequence[Task], Progress], None], poll_seconds: float) -> None:
        self._submit, self._poll_seconds = submit, poll_seconds

    def until_all_end(
        self, tasks: Sequence[Task], progress: Progress, when_some_end: Callable[[], None] = lambda: None
    ) -> None:
        """Watch tasks; those that were killed without notice are submitted again. `when_some_end` hears of others."""
        jobs = read_jobs(tasks[0].study)
        watched = [_Watched(task, jobs.get(task.cell.run_id)) for task in tasks]
        pause = self._poll_seconds
        while watched:
            time.sleep(pause)
            pause = min(1.1 * pause, max(SLOWEST_POLL_SECONDS, self._poll_seconds))
            statuses = statuses_of([entry.task for entry in watched])
            progress.show(statuses)
            still: list[_Watched] = []
            ended: list[tuple[_Watched, CellStatus]] = []
            for entry, status in zip(watched, statuses, strict=True):
                if status.state in IN_WORK or (status.state is CellState.STOPPED and entry.looks_left > 0):
                    entry.looks_left = LOST_POLLS if status.state in IN_WORK else entry.looks_left - 1
                    still.append(entry)
                else:
                    ended.append((entry, status))
            again = self._submit_again(ended, progress)
            for entry, status in ended:
                if entry not in again:
                    progress.ended(_explained(entry, status))
            if ended:
                when_some_end()
            watched = [*still, *again]

    def _submit_again(self, ended: Sequence[tuple[_Watched, CellStatus]], progress: Progress) -> list[_Watched]:
        """Submit runs again that were killed without notice and not requeued; return those that were."""
        lost = [entry for entry, status in ended if _is_lost(entry, status)]
        jobs = {entry.job for entry in lost if entry.job is not None}
        endings = slurm_queue.endings(jobs)
        again = [entry for entry in lost if endings.get(entry.job or "") not in FINAL]
        if not again:
            return []
        for job in dict.fromkeys(entry.job for entry in again):
            runs = sum(entry.job == job for entry in again)
            what = "its run was killed: submitting it" if runs == 1 else f"its {runs} runs were killed: submitting them"
            progress.say(f"SLURM job {job} ended as {endings.get(job or '', 'gone')} and {what} again")
        study = again[0].task.study
        try:
            with FileLock(submit_lock(study)):
                self._submit([entry.task for entry in again], progress)
        except UserError as error:  # the others are watched to their end
            progress.say(f"error: {one_line(error)}")
            return []
        submitted = read_jobs(study)
        for entry in again:
            entry.job = submitted[entry.task.cell.run_id]
            entry.looks_left, entry.resubmissions_left = LOST_POLLS, entry.resubmissions_left - 1
        return again


def _is_lost(entry: _Watched, status: CellStatus) -> bool:
    """Return whether a run was killed without notice, and may be submitted again."""
    if status.state is not CellState.STOPPED or entry.job is None or not entry.resubmissions_left:
        return False
    found = read_status(entry.task.run_dir) or {}
    return found.get("state") == State.RUNNING.value or was_lost(found)


def _explained(entry: _Watched, status: CellStatus) -> CellStatus:
    """Return the status of a cell with what SLURM says of the end of its job, and note that on disk."""
    if status.state is not CellState.STOPPED or entry.job is None:
        return status
    ending = slurm_queue.endings([entry.job]).get(entry.job, "gone")
    if ending in UNENDED:  # other runs of the job go on
        return status
    said = f" ({status.reason})" if status.reason else ""
    note_death(entry.task.run_dir, f"SLURM job {entry.job} ended as {ending}{said}")
    (explained,) = statuses_of([entry.task])
    return explained
