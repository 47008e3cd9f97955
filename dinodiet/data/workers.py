"""Worker processes of a loader that die, hang, or cannot hand over what they loaded: the run ends, and says why."""

from __future__ import annotations

import atexit
import contextlib
import errno
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterator, Set
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from torch.utils.data import DataLoader

from dinodiet.errors import MachineLimit
from dinodiet.io.leaving import SIGNALS
from dinodiet.io.limits import LOST_BATCH, shared_memory_is_full, worker_died

Item = TypeVar("Item")
HANG_SECONDS = 600.0  # for one batch: of large images on a slow disk it takes a minute
STOPPED_SECONDS = 45.0  # for one that a signal or debugger has stopped: no disk, however slow, does that
POLL_SECONDS = 1.0
KILL_SECONDS = 30.0  # a process that reads from a dead server cannot be killed

_AGAIN = "the same command continues"
_workers: set[BaseProcess] = set()


def watched(loader: DataLoader[Item]) -> Iterator[Item]:
    """Yield what a loader with `prepare_worker` loads; without worker processes, as it does.

    Raises:
        MachineLimit: workers cannot be started, died, or wait for a file for too long. One that dies while its batches
            are used is a RuntimeError at any place of the main thread, whose words `dinodiet.io.limits` knows.
    """
    if loader.num_workers == 0:
        yield from loader
        return
    _check_queues(loader.num_workers)
    others = set(multiprocessing.active_children())
    batches = iter(loader)
    with _Watch(set(multiprocessing.active_children()) - others) as watch:
        try:
            while True:
                with watch.waiting():
                    batch = next(batches)
                yield batch
        except StopIteration:
            return
        finally:
            # Before they are killed: torch takes the death of a worker that it still knows for a failure.
            with contextlib.suppress(RuntimeError):
                batches._shutdown_workers()  # type: ignore[attr-defined]


def _check_queues(workers: int) -> None:
    """Refuse to start workers where their queues cannot be made, which torch notices with half of them started.

    Raises:
        MachineLimit: shared memory is full.
        OSError: too many files are open.
    """
    try:
        for _ in [multiprocessing.Queue() for _ in range(workers + 2)]:  # one more for torch's events
            pass
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise shared_memory_is_full() from error


def prepare_worker(number: int) -> None:
    """Prepare a worker process: it leaves where a batch cannot be handed over, and lets its parent hear signals.

    A batch goes through shared memory, from a thread that would only print what went wrong, and the parent would wait
    for ever. Signals come to all processes of a terminal or of a job: the parent ends its workers.
    """
    for signal_number in SIGNALS:
        signal.signal(signal_number, signal.SIG_IGN)
    Queue._on_queue_feeder_error = staticmethod(_leave)  # type: ignore[attr-defined]
    sys.excepthook = _print_unless_left


def _print_unless_left(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    """Print what ended a thread, but not that the parent left while it took a batch."""
    if not isinstance(error, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, where)


def _leave(error: Exception, item: Any) -> None:
    found = re.search(r"\((\d+)\)\s*$", str(error))  # how torch ends what the system said
    code = getattr(error, "errno", None) or (int(found[1]) if found else 0)
    os._exit(LOST_BATCH + code if LOST_BATCH + code < 256 else LOST_BATCH)


class _Watch:
    """A context that ends worker processes when it is left, and before if the parent waits for them for too long."""

    def __init__(self, workers: Set[BaseProcess]) -> None:
        self._own, self._waits, self._waited, self._stopped = workers, False, 0.0, 0.0
        self._hung: str | None = None  # in words
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._look, name="workers", daemon=True)

    def __enter__(self) -> _Watch:
        _workers.update(self._own)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.set()
        _kill(self._own)
        _workers.difference_update(self._own)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Wait for the workers inside; an error that follows from killing them is told as what it is."""
        self._waited, self._waits = 0.0, True
        try:
            yield
        except (OSError, EOFError, RuntimeError) as error:
            if self._hung is not None:
                raise MachineLimit(self._hung) from error
            if code := self._exit_code():
                raise worker_died(code) from error
            raise
        finally:
            self._waits = False

    def _exit_code(self) -> int | None:
        """Return the exit code of a worker that died, which is known a moment after its connection broke."""
        connection.wait([worker.sentinel for worker in self._own], timeout=POLL_SECONDS)
        return next((worker.exitcode for worker in self._own if worker.exitcode), None)

    def _look(self) -> None:
        while not self._left.wait(POLL_SECONDS):
            waited = POLL_SECONDS if self._waits else 0.0  # not the clock: a whole job may be suspended
            self._waited += waited
            self._stopped = self._stopped + waited if waited and any(map(_is_stopped, self._own)) else 0.0
            if self._hung is None and (found := self._found()) is not None:
                self._hung, self._waited = found, 0.0
                _kill(self._own)
            if self._hung is not None and self._waits and self._waited > KILL_SECONDS:
                print(f"error: {self._hung}", file=sys.stderr, flush=True)
                os._exit(MachineLimit.EXIT_CODE)

    def _found(self) -> str | None:
        """Return why the workers will give no batch, in words; None: they may."""
        if self._waits and self._stopped > STOPPED_SECONDS:
            return f"a worker process was stopped for {STOPPED_SECONDS:.0f} s (SIGSTOP, or a debugger); {_AGAIN}"
        if self._waits and self._waited > HANG_SECONDS:
            return (
                f"worker processes gave no batch for {HANG_SECONDS:.0f} s: the disk that the images are on, or its "
                f"server, does not answer; {_AGAIN}"
            )
        return None


def _is_stopped(worker: BaseProcess) -> bool:
    """Return whether a process waits for the signal that lets it go on; where no file of the system tells, False."""
    try:
        return Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def _kill(workers: Set[BaseProcess]) -> None:
    for worker in workers:
        with contextlib.suppress(ValueError):  # it is closed
            worker.kill()


@atexit.register
def _kill_all() -> None:
    """Kill what is left at the end, for which Python would wait: those that were being started too."""
    _kill(_workers | {child for child in multiprocessing.active_children() if child.daemon})
