"""A run in several processes of this machine: they are started, watched and ended together.

Each process but the first prints to a file of its own, and every one keeps its traceback there. Where one fails or
dies, all are ended, and the one error that explains it is raised here.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import socket
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
from dinodiet.io.leaving import signals_to
from dinodiet.processes.place import Place
from dinodiet.store.status import Preempted

GRACE_SECONDS = 20.0  # for the others to find out that one is gone, and to leave by themselves
# Torch has no class of its own for what gloo raises: only its text tells that another process is gone.
_TALK = ("gloo", "NCCL", "Connection closed", "Connection reset", "DistBackendError")


class ProcessLost(UserError):  # noqa: N818 - a fact about the machine
    """A process of a run died without a word."""


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
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # torch tells of every lost connection, beside our one line
    with tempfile.TemporaryDirectory() as meeting:
        crew = _Crew()
        with signals_to(crew.forward):
            crew.start(work, argument, number, folder, f"file://{meeting}/group")
            ended = crew.attend()
    if not all(one.well for one in ended):
        if any(one.rank == 0 and one.error is None for one in ended):
            print(file=sys.stderr)  # the first one was killed, perhaps within the line of its progress
        raise _cause(ended, folder, crew.signal_name)
    return next(one.result for one in ended if one.rank == 0)


class _Crew:
    """The processes of a run, seen from the one that started them."""

    def __init__(self) -> None:
        self.signal_name: str | None = None
        self._processes: list[tuple[SpawnProcess, Connection]] = []
        self._held: Connection | None = None

    def start(self, work: Callable[[Any], Any], argument: Any, number: int, folder: Path, meeting: str) -> None:
        """Start all processes; where this one was told to leave meanwhile, they hear of it."""
        context = multiprocessing.get_context("spawn")
        alive, self._held = context.Pipe(duplex=False)  # this end is closed when this process dies
        for rank in range(number):
            told, tell = context.Pipe(duplex=False)
            place = Place(rank, number, rank, meeting)
            process = context.Process(target=_enter, args=(work, argument, place, folder, tell, alive))
            process.start()
            tell.close()
            self._processes.append((process, told))
        alive.close()
        if self.signal_name is not None:
            self.forward(signal.Signals[self.signal_name], None)

    def forward(self, number: int, frame: FrameType | None) -> None:
        """Hand a signal to all processes: they agree on the step after which they leave."""
        self.signal_name = signal.Signals(number).name
        for process, _ in self._processes:
            if process.is_alive() and process.pid is not None:
                os.kill(process.pid, number)

    def attend(self) -> list[Ended]:
        """Wait for all processes, and return them as they ended.

        Once one has failed, those that do not leave by themselves are ended.
        """
        waiting = {told: (Ended(rank), process) for rank, (process, told) in enumerate(self._processes)}
        ended: list[Ended] = []
        deadline, killed = math.inf, False
        while waiting:
            limit = None if killed or deadline == math.inf else max(deadline - time.monotonic(), 0.0)
            ready = wait(list(waiting), limit)  # for what they tell, or the end of it
            for told in ready:
                assert isinstance(told, Connection)
                one, process = waiting.pop(told)
                _hear(one, told)
                process.join()
                one.code = process.exitcode
                ended.append(one)
                if not one.well:
                    deadline = min(deadline, time.monotonic() + GRACE_SECONDS)
            if not ready:
                for one, process in waiting.values():
                    one.silent = True
                    process.kill()
                killed = True
        return ended


def _hear(one: Ended, told: Connection) -> None:
    """Take what a process tells of its end; one that was killed tells nothing."""
    try:
        one.result, one.error = told.recv()
    except EOFError:
        return
    except Exception as broken:  # what was raised there cannot be made again here
        one.error = UserError(f"processes: process {one.rank} failed; its log says why ({type(broken).__name__})")


def _cause(ended: Sequence[Ended], folder: Path, signal_name: str | None) -> BaseException:
    """Return the error that explains all that went wrong: what the others say of one that is gone does not."""
    own = [one.error for one in ended if one.error is not None and not _is_talk(one.error)]
    if any(not isinstance(error, Preempted) for error in own):
        return next(error for error in own if not isinstance(error, Preempted))
    if own or signal_name is not None:
        return own[0] if own else Preempted(str(signal_name))
    killed = [one for one in ended if not one.well and one.error is None]
    if killed:
        return ProcessLost(_lost(min(killed, key=lambda one: one.silent)))
    first, error = next((one, one.error) for one in ended if one.error is not None)
    return UserError(
        f"processes: process {first.rank} on {socket.gethostname()} lost the others ({one_line(error)}); see "
        f"{folder}/log.rank*.txt; the same command continues from the last checkpoint"
    )


def _lost(one: Ended) -> str:
    code, where = one.code or 0, f"processes: process {one.rank} on {socket.gethostname()}"
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"left with exit code {code}"
    if one.silent:
        how = "took no part any more, and was ended"
    memory = ", perhaps for memory" if code == -signal.SIGKILL and not one.silent else ""
    return f"{where} {how}{memory}, and the others with it; the same command continues from the last checkpoint"


def _is_talk(error: BaseException) -> bool:
    """Return whether an error says that another process is gone."""
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _TALK)


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
        result = _joined(work, argument, place)
    except BaseException as caught:
        error = caught
        if not isinstance(caught, (Preempted, KeyboardInterrupt)):
            with log.open("a") as file:
                file.write("".join(traceback.format_exception(caught)))
    _tell(tell, result, error)
    sys.stdout.flush()
    if error is not None:
        os._exit(1)  # threads of a broken group would be waited for


def _joined(work: Callable[[Any], Any], argument: Any, place: Place) -> Any:
    import torch  # noqa: PLC0415 - the parent needs none

    from dinodiet.processes.group import joined  # noqa: PLC0415

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(len(os.sched_getaffinity(0)) // place.size, 1))
    with joined(place):
        return work(argument)


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
