"""Leaving on a signal where nothing has to be saved: at once, with one line. Imports no torch."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, NoReturn

INTERRUPTED = 130  # what a shell reports of a command that Ctrl-C ended
CONTINUES = "; the same command continues"
STOPPED = 75  # EX_TEMPFAIL of sysexits.h: try again
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)
_ending = threading.Event()  # the process has left what it did: its handlers stay as they are


def leave_on_signals(*, continues: bool = False) -> None:
    """Leave on a signal from now on, also in the middle of an import, where an exception would be told as a failure.

    A signal that is ignored stays so, as under nohup. A run has handlers of its own, which save what there is.

    Args:
        continues: the command goes on where it was when it is given again, and says so.
    """
    own = os.getpid()

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            _leave(number, continues=continues)
        os._exit(_code(number))

    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, leave)
    atexit.register(ignore_signals)  # the first that is registered is called last


def ignore_signals() -> None:
    """Ignore signals while Python ends: it would give them back to the system, which kills what is done."""
    _ending.set()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def leave_quietly() -> None:
    """Leave at a further signal without a word: why was said already."""
    _ending.set()
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _leave_quietly)


def _leave_quietly(number: int, frame: FrameType | None) -> None:
    _end_children()
    os._exit(_code(number))


def leave_now(number: int, frame: FrameType | None) -> None:
    """Leave a run without any cleaning up but that of child processes, which nobody would end."""
    _leave(number, continues=True)


def _leave(number: int, *, continues: bool) -> NoReturn:
    for other in SIGNALS:  # one that follows at once would say it again
        signal.signal(other, signal.SIG_IGN)
    _say(number, continues=continues)
    _end_children()
    os._exit(_code(number))


def _end_children() -> None:
    if multiprocessing := sys.modules.get("multiprocessing"):
        for child in multiprocessing.active_children():
            child.kill()


def leave_silently(number: int, frame: FrameType | None) -> None:
    """Leave a child process: its parent says why."""
    os._exit(_code(number))


def _code(number: int) -> int:
    return INTERRUPTED if number == signal.SIGINT else STOPPED


@contextlib.contextmanager
def signals_to(
    handler: Callable[[int, FrameType | None], Any], numbers: Sequence[signal.Signals] = SIGNALS
) -> Iterator[None]:
    """Hand the signals to a handler of one's own inside; one that is ignored stays so.

    A signal that comes while the inside is left may keep it from its end until Python collects it, which may be
    after `leave_quietly`: nothing is given back then.
    Python delivers signals to the main thread alone: in another one nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, former in before.items() if not _ending.is_set() else ():
            signal.signal(number, former)


def _say(number: int, *, continues: bool) -> None:
    how = "stopped" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    how += CONTINUES if continues else ""
    # A closed terminal; a line that is being printed; no standard output.
    with contextlib.suppress(OSError, ValueError, RuntimeError, AttributeError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, f"{how}\n".encode())
