"""What a SLURM job does that several runs share: each is a process of its own, and they run side by side."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType

from dinodiet.io.leaving import ignore_signals
from dinodiet.processes.place import SHARING
from dinodiet.store.grid import read_jobs
from dinodiet.store.states import CellState
from dinodiet.store.status import Preempted, State, read_status, slurm_job
from dinodiet.sweep.drive import note_death, status_on_disk
from dinodiet.sweep.launchers.ending import how_it_died
from dinodiet.sweep.launchers.local import attempt
from dinodiet.sweep.launchers.slurm_job import (
    SIGNALS,
    leave_on_job_signals,
    note_limit,
    requeue_here,
    start_of_job,
    threads_of,
    was_requeued,
)
from dinodiet.sweep.task import Task, printing_to

POLL_SECONDS = 0.2
WAITING = (State.QUEUED.value, State.PREEMPTED.value, State.RUNNING.value)
Running = dict[BaseProcess, Task]


def run_pack_in_job(tasks: Sequence[Task], folder: str) -> None:
    """Do the runs in this SLURM job, all at the same time. Where it was requeued, what had ended stays as it is.

    SIGUSR2 and SIGTERM, see `dinodiet.sweep.launchers.slurm_job.run_in_job`, are passed on to all runs; where the time
    limit is near, the job goes back into the queue once, after all have written their checkpoints. `folder` is as
    there.

    Raises:
        Preempted: SLURM asked the job to leave.
        ChildProcessError: runs failed or were killed; SLURM then calls the job failed, and their directories say why.
    """
    stop = _Stop()
    os.chdir(folder)
    todo = [task for task in tasks if _is_waiting(task)]
    print(f"{start_of_job()}: {len(todo)} of {len(tasks)} runs to do, side by side", flush=True)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_of(len(tasks))))
    os.environ[SHARING] = str(max(len(todo), 1))
    with _processes(todo) as running:
        while running:
            for process in [process for process in running if not process.is_alive()]:
                _ended(running.pop(process), process.exitcode or 0)
            stop.forward(running)
            time.sleep(POLL_SECONDS)
    if stop.signal is not None and any(map(_is_waiting, todo)):
        if stop.signal is signal.SIGUSR2:
            requeue_here()
        raise Preempted(stop.signal.name)
    if lost := [task.cell.run_id for task in todo if status_on_disk(task).state is not CellState.DONE]:
        raise ChildProcessError(f"{len(lost)} of {len(todo)} runs did not finish: {', '.join(lost)}")


def _is_waiting(task: Task) -> bool:
    """Return whether a run is this job's to begin or continue: what ended needs a new command, and gets a new job."""
    status = read_status(task.run_dir)
    if status is None or status["state"] not in WAITING:
        return False
    newest = read_jobs(task.study).get(task.cell.run_id)  # written a moment after the job was submitted
    return newest == slurm_job() or not was_requeued()


class _Stop:
    """Remembers the first signal that asks this job to stop, and passes it on to the runs."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._forwarded = False
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = self.signal or signal.Signals(number)

    def forward(self, running: Running) -> None:
        """Tell the running processes once: SLURM may have told them too, which they can bear."""
        if self.signal is not None and not self._forwarded:
            self._forwarded = True
            for process in running:
                assert process.pid is not None
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    os.kill(process.pid, self.signal)


@contextlib.contextmanager
def _processes(tasks: Sequence[Task]) -> Iterator[Running]:
    """Start a process for each task; those that are left at the end, where this one fails, are killed."""
    running: Running = {}
    try:
        for task in tasks:
            running[_start(task)] = task
        yield running
    finally:
        for process in running:
            process.kill()


def _start(task: Task) -> BaseProcess:
    """Start a run in a new interpreter. Signals wait until it can hear them: before, they would kill it."""
    process = multiprocessing.get_context("spawn").Process(target=_run_alone, args=(task,), name=task.cell.run_id)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        resource_tracker.ensure_running()  # a process of Python's own; starting it lets SIGTERM through again
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def _ended(task: Task, code: int) -> None:
    """Note the death of a run that could not; the others go on."""
    how = how_it_died(status_on_disk(task), code)
    if how is not None:
        note_death(task.run_dir, how)


def _run_alone(task: Task) -> None:
    """Do a run in a process of its own.

    Raises:
        Preempted: it was told to stop, and is to be continued.
    """
    leave_on_job_signals()
    with printing_to(task.run_dir.log):
        print(start_of_job(), flush=True)
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            attempt(task)
        except Preempted as left:
            if left.signal_name == signal.SIGUSR2.name:
                note_limit(task.run_dir, left)
            raise
        finally:
            ignore_signals()  # SLURM and the job's own process both tell of the same signal
