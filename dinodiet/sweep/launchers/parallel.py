"""Run cells in several processes of this machine, with its cores and GPUs shared out."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Annotated

from dinodiet.config.ranges import NonNegative, Positive, Range
from dinodiet.errors import UserError
from dinodiet.io.leaving import leave_silently, signals_to
from dinodiet.processes.place import SHARING
from dinodiet.store.states import IN_WORK, CellState
from dinodiet.store.status import Preempted
from dinodiet.sweep.drive import note_death, statuses_of
from dinodiet.sweep.launchers.code_copy import CodeCopies, importing_from
from dinodiet.sweep.launchers.ending import how_it_died
from dinodiet.sweep.launchers.gpus import least_memory, visible_gpus
from dinodiet.sweep.launchers.local import attempt
from dinodiet.sweep.packing import Packing, check_alone, memory_in_bytes
from dinodiet.sweep.progress import Progress
from dinodiet.sweep.task import Task, printing_to

# What the server imports that runs are forked from. It must not look for GPUs: the runs could then not use them.
PRELOADED = ["__main__", "dinodiet.run.run", __name__]
POLL_SECONDS = 2.0


class Parallel:
    """Runs tasks `processes` at a time, each in a process of its own that prints to the run's `log.txt`.

    Processes are forked from one that has imported the libraries, so that each starts at once. A killed process costs
    its run alone; the next command continues it.

    Args:
        processes: how many at a time; None: one a GPU, or without GPUs half as many as cores.
        gpus: GPUs to share out; None: all that are visible. Process i gets GPU i modulo their number.
        runs_per_gpu: how many at a time on each GPU, in place of `processes`; without GPUs how many at a time.
        gpu_mem_gb: GiB of memory of a GPU; None: what the driver says.

    Raises:
        UserError: both `processes` and `runs_per_gpu` are given.
    """

    in_process = False

    def __init__(
        self,
        *,
        processes: Annotated[int | None, Range(1, 1024)] = None,
        gpus: NonNegative[int | None] = None,
        runs_per_gpu: Annotated[int | None, Range(1, 1024)] = None,
        gpu_mem_gb: Positive[float | None] = None,
    ) -> None:
        if processes is not None and runs_per_gpu is not None:
            raise UserError(f"runs_per_gpu: {runs_per_gpu} beside processes={processes}; give one of them")
        self._gpus = visible_gpus() if gpus is None else visible_gpus()[:gpus]
        self.packing: Packing | None = None if runs_per_gpu is None else self._packing(runs_per_gpu, gpu_mem_gb)
        cores = os.cpu_count() or 1
        packed = None if runs_per_gpu is None else runs_per_gpu * max(1, len(self._gpus))
        self._processes = processes or packed or len(self._gpus) or max(1, cores // 2)
        self._threads = max(1, cores // self._processes)
        self.sharing = math.ceil(self._processes / max(1, len(self._gpus)))  # runs on one GPU
        self._copies = CodeCopies()

    def _packing(self, runs_per_gpu: int, gpu_mem_gb: float | None) -> Packing:
        memory = memory_in_bytes(gpu_mem_gb) or least_memory(self._gpus)
        return Packing(runs_per_gpu, memory, len(self._gpus))

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse runs of several processes that would share a GPU; see `dinodiet.sweep.drive.CheckingLauncher`."""
        check_alone(tasks, 1 if self.packing is None else self.packing.runs_per_gpu)

    def run(self, tasks: Sequence[Task], progress: Progress) -> None:
        """Run the tasks; see `dinodiet.sweep.drive.Launcher`."""
        code = self._copies.of(tasks)
        with importing_from(code):
            self._run(tasks, progress, code)

    def _run(self, tasks: Sequence[Task], progress: Progress, code: Path) -> None:
        if self.packing is not None:
            progress.say(self.packing.told(len(tasks)))
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        waiting = deque(tasks)
        running: dict[BaseProcess, tuple[Task, int]] = {}
        free = list(range(self._processes))[::-1]
        stop = _StopFlag()
        _start_server(code)
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
        process = context.Process(target=_work, args=(task, self._threads, gpu, self.sharing), name=task.cell.run_id)
        process.start()
        return process

    @staticmethod
    def _ended(process: BaseProcess, task: Task, progress: Progress) -> None:
        process.join()
        (status,) = statuses_of([task])
        how = how_it_died(status, process.exitcode or 0)
        if how is not None:
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


def _start_server(code: Path) -> None:
    """Start the process that the others are forked from, deaf to Ctrl-C: it reaches all, and the parent passes it on.

    Python's own handler would print a traceback out of each process that is still importing. It looks for modules in
    its current folder first, which is that of the code.
    """
    resource_tracker.ensure_running()  # the server starts it otherwise, and Python then unblocks the signal
    before, here = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}), Path.cwd()
    try:
        os.chdir(code)
        forkserver.ensure_running()
    finally:
        os.chdir(here)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(task: Task, threads: int, gpu: str | None, sharing: int) -> None:
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    os.environ[SHARING] = str(sharing)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent passes it on
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)
    with signals_to(leave_silently), printing_to(task.run_dir.log):
        attempt(task)
        with contextlib.suppress(OSError):  # a full disk
            sys.stdout.flush()
