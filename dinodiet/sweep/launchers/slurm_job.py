"""What a SLURM job does: one run, whatever happens to the job. Imported by submitit on the compute node."""

from __future__ import annotations

import os
import signal
import sys
import time
from types import FrameType

from dinodiet.errors import UserError, one_line
from dinodiet.io.files import write_json
from dinodiet.run.spawn import log_of
from dinodiet.store.queue import requeue
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import Preempted, State, read_status, slurm_job
from dinodiet.sweep.launchers.slurm_tasks import place_in_job, run_part
from dinodiet.sweep.task import Task, execute, printing_to

SIGNALS = (signal.SIGTERM, signal.SIGUSR2)
SAME_STEP_REQUEUES = 3  # so many time limits in a row without a step between them: it would go on for ever


def run_in_job(task: Task, folder: str) -> None:
    """Do the run in this SLURM job, or this task's part of it where the job has several.

    SIGUSR2 says that the time limit is near: the run writes its checkpoint and the job goes back into the queue.
    SIGTERM is SLURM's own doing (preemption, requeue, cancel): the run writes its checkpoint and leaves.
    Either reaches all tasks; the first one requeues.
    submitit's own handlers, which count time-outs and take short jobs' preemption for one, are replaced.

    Args:
        task: the run.
        folder: of the command, which relative paths start from; the job begins in that of its code.

    Raises:
        Exception: the run failed; SLURM then calls the job failed, and the run directory says why.
    """
    leave_on_job_signals()
    os.chdir(folder)
    place = place_in_job(task)
    rank = 0 if place is None else place.rank
    own = 1 if place is not None else task.config.get("processes") or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(threads_of(own)))
    with printing_to(log_of(task.run_dir.path, rank) if rank else task.run_dir.log):
        print(start_of_job(), flush=True)
        try:
            if place is None:
                execute(task)
            else:
                run_part(task, place)
        except Preempted as left:
            if rank == 0 and left.signal_name == signal.SIGUSR2.name and note_limit(task.run_dir, left):
                requeue_here()
            raise
        except UserError as error:
            print(f"error: {one_line(error)}", flush=True)
            raise


def threads_of(number: int) -> int:
    """Return how many threads each of so many processes of this task may have of its processors."""
    return max(1, int(os.environ.get("SLURM_CPUS_PER_TASK", "1")) // number)


def start_of_job() -> str:
    """Return the line that begins the log of a run, or of several, in this SLURM job."""
    return f"--- SLURM job {slurm_job()}, restarted {_restarts()} times, begun at {time.time():.2f}"


def was_requeued() -> bool:
    """Return whether this SLURM job was started before."""
    return _restarts() != "0"


def _restarts() -> str:
    return os.environ.get("SLURM_RESTART_COUNT", "0")


def leave_on_job_signals() -> None:
    """Raise `Preempted` at a signal of SLURM's, until a run has handlers of its own."""
    for number in SIGNALS:
        signal.signal(number, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    raise Preempted(signal.Signals(number).name)


def note_limit(run_dir: RunDir, left: Preempted) -> bool:
    """Note in a run directory that the time limit came; return whether the run is to be continued.

    A run that came to several limits without a step between them has failed: it would go on for ever.
    """
    status = read_status(run_dir) or {}
    steps = [*status.get("requeued_at", []), left.step]
    if steps[-SAME_STEP_REQUEUES:] == [left.step] * SAME_STEP_REQUEUES:
        advice = "raise hydra.launcher.timeout_min and add retry=failed"
        reason = f"{SAME_STEP_REQUEUES} time limits in a row passed without a step; {advice}"
        write_json(run_dir.status, {**status, "state": State.FAILED.value, "reason": reason})
        return False
    write_json(run_dir.status, {**status, "requeued_at": steps})
    return True


def requeue_here() -> None:
    """Put the job of this process back into the queue."""
    job = slurm_job()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # SLURM ends the job by it once it is requeued
    if job is not None and not requeue(job):
        print(f"SLURM refused to requeue job {job}; run the sweep's command again to continue", file=sys.stderr)
