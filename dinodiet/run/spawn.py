"""A run in several processes of this machine: they are started, watched and ended together.

Each process but the first prints to a file of its own, and every one keeps its traceback there. Where one fails or
dies, all are ended, and the one error that explains it is raised here.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from dinodiet.errors import UserError, one_line
from dinodiet.io.leaving import ignore_signals, signals_to
from dinodiet.processes.heartbeat import Silent, silence_minutes
from dinodiet.processes.place import Place, machine_name
from dinodiet.run.lost import CONTINUES, lost_others, says_lost
from dinodiet.run.reports import TaskReports
from dinodiet.store.status import Preempted, ProcessLost

GRACE_SECONDS = 20.0  # for the others to find out that one is gone, and to leave by themselves
POLL_SECONDS = 2.0  # between looks at what other tasks report


@dataclass
class Ended:
    """How a process ended: its result or error; neither, where it was killed. `silent`: by us, as it did not leave."""

    rank: int
    code: int | None = None
    result: Any = None
    error: BaseException | None = None
    silent: bool = False

    @property
    def well(self) -> bool:
        """Return whether it did its work."""
        return self.error is None and self.code == 0


def in_processes(work: Callable[[Any], Any], argument: Any, number: int, folder: Path) -> Any:
    """Do work in so many processes of this machine; return what the first one returns.

    Args:
        work: a function that can be pickled; it is called inside the process group.
        argument: its argument.
        number: of processes.
        folder: where `log.rank<n>.txt` of those but the first go, and tracebacks of all.

    Raises:
        Exception: what went wrong in a process.
        ProcessLost: one was killed.
        Preempted: all were told to leave, and did.
        UserError: the environment says no number of minutes after which a silent process is given up.
    """
    with tempfile.TemporaryDirectory() as meeting:
        places = [Place(rank, number, rank, f"file://{meeting}/group") for rank in range(number)]
        return _worked(work, argument, places, folder)


def in_own_process(work: Callable[[Any], Any], argument: Any, place: Place, folder: Path, reports: TaskReports) -> Any:
    """Do this task's part of work that several tasks share, in a process of its own; return what that returns.

    Where the process of one task fails or dies, its reason is raised in all tasks.

    Args:
        work, argument, folder: as of `in_processes`.
        place: of this task among all.
        reports: through which the tasks hear of one another.

    Raises:
        Exception: as `in_processes`; of another task's process a UserError, or ProcessLost, that names it.
    """
    try:
        return _worked(work, argument, [place], folder, reports.are_there)
    except BaseException as error:
        if (cause := reports.cause_of(error)) is error:
            raise
        raise cause from error


def _worked(
    work: Callable[[Any], Any],
    argument: Any,
    places: Sequence[Place],
    folder: Path,
    ended_elsewhere: Callable[[], bool] | None = None,
) -> Any:
    silence_minutes()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch tells of every lost connection, beside our one line
    children = _Children()
    with signals_to(children.forward):
        children.start(work, argument, places, folder)
        ended = children.attend(ended_elsewhere)
    if not all(one.well for one in ended):
        if any(one.rank == 0 and one.error is None for one in ended):
            print(file=sys.stderr)  # the first one was killed, perhaps within the line of its progress
        raise _cause(ended, children.signal_name)
    return ended[0].result if len(ended) == 1 else next(one.result for one in ended if one.rank == 0)


class _Children:
    """The processes of a run, seen from the one that started them."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._processes: list[tuple[SpawnProcess, Connection, int]] = []
        self._held: Connection | None = None

    def start(self, work: Callable[[Any], Any], argument: Any, places: Sequence[Place], folder: Path) -> None:
        """Start all processes; where this one was told to leave meanwhile, they hear of it."""
        context = multiprocessing.get_context("spawn")
        alive, self._held = context.Pipe(duplex=False)  # this end is closed when this process dies
        for place in places:
            told, tell = context.Pipe(duplex=False)
            process = context.Process(target=_enter, args=(work, argument, place, folder, tell, alive))
            process.start()
            tell.close()
            self._processes.append((process, told, place.rank))
        alive.close()
        if self.signal_name is not None:
            self.forward(signal.Signals[self.signal_name], None)

    def forward(self, number: int, frame: FrameType | None) -> None:
        """Hand a signal to all processes: they agree on the step after which they leave."""
        self.signal_name = signal.Signals(number).name
        for process, _, _ in self._processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)

    def attend(self, ended_elsewhere: Callable[[], bool] | None = None) -> list[Ended]:
        """Wait for all processes, and return them as they ended.

        Once one has failed, here or elsewhere, those that do not leave by themselves are ended.
        """
        waiting = {told: (Ended(rank), process) for process, told, rank in self._processes}
        ended: list[Ended] = []
        deadline, killed = math.inf, False
        while waiting:
            ready = wait(list(waiting), _patience(deadline, killed, ended_elsewhere is not None))
            for told in ready:
                assert isinstance(told, Connection)
                one, process = waiting.pop(told)
                _hear(one, told)
                process.join()
                one.code = process.exitcode
                ended.append(one)
            if deadline == math.inf and (not all(one.well for one in ended) or (ended_elsewhere and ended_elsewhere())):
                deadline = time.monotonic() + GRACE_SECONDS
            if not killed and time.monotonic() >= deadline:
                for one, process in waiting.values():
                    one.silent = True
                    process.kill()
                killed = True
        return ended


def _patience(deadline: float, killed: bool, polls: bool) -> float | None:
    """Return for how many seconds to wait for what processes tell, or the end of it; None: for ever."""
    left = math.inf if killed else max(deadline - time.monotonic(), 0.0)
    if polls and not killed:
        left = min(left, POLL_SECONDS)
    return None if left == math.inf else left


def _hear(one: Ended, told: Connection) -> None:
    """Take what a process tells of its end; one that was killed tells nothing."""
    try:
        one.result, one.error = told.recv()
    except EOFError:
        return
    except Exception as broken:  # what was raised there cannot be made again here
        one.error = UserError(f"processes: process {one.rank} failed; its log says why ({type(broken).__name__})")


def _cause(ended: Sequence[Ended], signal_name: str | None) -> BaseException:
    """Return the error that explains all that went wrong: what the others say of one that is gone does not."""
    own = [one.error for one in ended if one.error is not None and not says_lost(one.error)]
    if any(not isinstance(error, Preempted) for error in own):
        return next(error for error in own if not isinstance(error, Preempted))
    if own or signal_name is not None:
        return own[0] if own else Preempted(str(signal_name))
    killed = [one for one in ended if not one.well and one.error is None]
    if killed:
        return ProcessLost(_lost(min(killed, key=lambda one: one.silent)))
    first, error = next((one, one.error) for one in ended if one.error is not None)
    return lost_others(first.rank, error)


def _lost(one: Ended) -> str:
    code, where = one.code or 0, f"processes: process {one.rank} on {machine_name()}"
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
    if one.silent:
        how = "took no part any more, and was ended"
    memory = ", perhaps for memory" if code == -signal.SIGKILL and not one.silent else ""
    return f"{where} {how}{memory}, and the others with it; {CONTINUES}"


def _enter(
    work: Callable[[Any], Any], argument: Any, place: Place, folder: Path, tell: Connection, alive: Connection
) -> None:
    """Be one process: join the others, work, and tell how it ended."""
    threading.Thread(target=_leave_with, args=(alive,), daemon=True).start()
    os.setpgrp()  # Ctrl-C of a terminal reaches the parent alone, which hands it on
    tqdm.set_lock(threading.RLock())  # its own is shared by processes, and missed where one of them dies
    log = log_of(folder, place.rank)
    if place.rank:
        print_to(log)
    result, error = None, None
    try:
        result = _joined(work, argument, place, tell)
    except BaseException as caught:
        error = caught
        if not isinstance(caught, (Preempted, KeyboardInterrupt)):
            with log.open("a") as file:
                file.write("".join(traceback.format_exception(caught)))
    ignore_signals()  # of a signal that comes twice
    _tell(tell, result, error)
    sys.stdout.flush()
    if error is not None:
        os._exit(1)  # threads of a broken group would be waited for


def _joined(work: Callable[[Any], Any], argument: Any, place: Place, tell: Connection) -> Any:
    import torch  # noqa: PLC0415 - the parent needs none

    from dinodiet.processes.group import joined  # noqa: PLC0415

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(len(os.sched_getaffinity(0)) // place.size, 1))

    def give_up(silent: Silent) -> None:
        _tell(tell, None, given_up(silent))
        os._exit(1)  # the main thread waits for the silent one

    with joined(place, give_up):
        return work(argument)


def given_up(silent: Silent) -> ProcessLost:
    """Return the error that tells of a silent process."""
    return ProcessLost(f"processes: {silent}, and all were ended; {CONTINUES}")


def _tell(tell: Connection, result: Any, error: BaseException | None) -> None:
    try:
        tell.send((result, error))
    except Exception:  # it cannot be handed over
        tell.send((None, UserError(f"{type(error).__name__}: {one_line(error)}") if error else None))


def _leave_with(alive: Connection) -> None:
    """End this process when its parent is gone: nobody would."""
    try:
        alive.recv()
    except (EOFError, OSError):
        os._exit(1)


def log_of(folder: Path, rank: int) -> Path:
    """Return the file of what a process prints, and of its traceback."""
    return folder / f"log.rank{rank}.txt"


def print_to(log: Path) -> None:
    """Send all that this process prints to the end of a file."""
    stream = log.open("a")
    os.dup2(stream.fileno(), 1)
    os.dup2(stream.fileno(), 2)
