"""Run cells in several processes of this machine, with its cores and GPUs shared out."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Annotated

from dinodiet.config.ranges import NonNegative, Range
from dinodiet.io.leaving import leave_silently, signals_to
from dinodiet.store.states import CellState
from dinodiet.store.status import Preempted
from dinodiet.sweep.drive import IN_WORK, note_death, statuses_of
from dinodiet.sweep.launchers.local import attempt
from dinodiet.sweep.progress import Progress
from dinodiet.sweep.task import Task, printing_to

POLL_SECONDS = 2.0
DRIVER_SECONDS = 60  # a driver that hangs never answers


class Parallel:
    """Runs tasks `processes` at a time, each in a process of its own that prints to the run's `log.txt`.

    Processes are forked from one that has imported the libraries, so that each starts at once. A killed process costs
    its run alone; the next command continues it.

    Args:
        processes: how many at a time; None: one a GPU, or without GPUs half as many as cores.
        gpus: GPUs to share out; None: all that are visible. Process i gets GPU i modulo their number.
    """

    in_process = False

    def __init__(
        self, *, processes: Annotated[int | None, Range(1, 1024)] = None, gpus: NonNegative[int | None] = None
    ) -> None:
        self._gpus = visible_gpus() if gpus is None else visible_gpus()[:gpus]
        cores = os.cpu_count() or 1
        self._processes = processes or len(self._gpus) or max(1, cores // 2)
        self._threads = max(1, cores // self._processes)

    def run(self, tasks: Sequence[Task], progress: Progress) -> None:
        """Run the tasks; see `dinodiet.sweep.drive.Launcher`."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["__main__", "dinodiet.run.run", __name__])
        waiting = deque(tasks)
        running: dict[BaseProcess, tuple[Task, int]] = {}
        free = list(range(self._processes))[::-1]
        stop = _StopFlag()
        _start_server()
        with signals_to(stop.note):
            while waiting or running:
                for _ in range(len(waiting)):
                    if not free:
                        break
                    task = waiting.popleft()
                    (status,) = statuses_of([task])
                    if status.state in IN_WORK:
                        waiting.append(task)  # another command's: look again later
                    elif status.state in (CellState.DONE, CellState.FAILED):
                        progress.ended(status)  # it was another command's
                    else:
                        slot = free.pop()
                        running[self._start(context, task, slot)] = (task, slot)
                connection.wait([process.sentinel for process in running], timeout=POLL_SECONDS)
                for process in [process for process in running if not process.is_alive()]:
                    task, slot = running.pop(process)
                    free.append(slot)
                    self._ended(process, task, progress)
                progress.show(statuses_of([task for task, _ in running.values()]) if running else [])
                if stop.signal:
                    waiting.clear()
                    stop.forward(running)
        if stop.signal:
            raise Preempted(stop.signal.name)

    def _start(self, context: multiprocessing.context.ForkServerContext, task: Task, slot: int) -> BaseProcess:
        gpu = self._gpus[slot % len(self._gpus)] if self._gpus else None
        process = context.Process(target=_work, args=(task, self._threads, gpu), name=task.cell.run_id)
        process.start()
        return process

    @staticmethod
    def _ended(process: BaseProcess, task: Task, progress: Progress) -> None:
        process.join()
        (status,) = statuses_of([task])
        if status.state not in (CellState.DONE, CellState.FAILED) and process.exitcode not in (0, Preempted.EXIT_CODE):
            code = process.exitcode or 0
            how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"its process left with exit code {code}"
            note_death(task.run_dir, how)
            (status,) = statuses_of([task])
        progress.ended(status)


class _StopFlag:
    """Remembers the first signal that asks this process to stop; a second Ctrl-C leaves at once."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._forwarded = False

    def note(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self.signal and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        self.signal = signal.Signals(number)

    def forward(self, running: dict[BaseProcess, tuple[Task, int]]) -> None:
        """Tell the running processes once; each writes its checkpoint and leaves."""
        if not self._forwarded:
            self._forwarded = True
            for process in running:
                process.terminate()


def _start_server() -> None:
    """Start the process that the others are forked from, deaf to Ctrl-C: it reaches all, and the parent passes it on.

    Python's own handler would print a traceback out of each process that is still importing.
    """
    resource_tracker.ensure_running()  # the server starts it otherwise, and Python then unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(task: Task, threads: int, gpu: str | None) -> None:
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent passes it on
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    with signals_to(leave_silently), printing_to(task.run_dir.log):
        attempt(task)
        with contextlib.suppress(OSError):  # a full disk
            sys.stdout.flush()


def visible_gpus() -> list[str]:
    """Return the ids of the GPUs of this machine that CUDA_VISIBLE_DEVICES leaves, without importing torch."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu for gpu in chosen.split(",") if gpu.strip() and gpu.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        asked = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=True, timeout=DRIVER_SECONDS
        )
    except subprocess.SubprocessError:
        return []
    return [str(number) for number, _ in enumerate(asked.stdout.splitlines())]
