"""Leaving on a signal where nothing has to be saved: at once, with one line. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130  # what a shell reports of a command that Ctrl-C ended
STOPPED = 75  # EX_TEMPFAIL of sysexits.h: try again
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP)


def leave_on_signals() -> None:
    """Leave on a signal from now on, also in the middle of an import, where an exception would be told as a failure.

    A signal that is ignored stays so, as under nohup. A run has handlers of its own, which save what there is.
    """
    own = os.getpid()

    def leave(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            _say(number)
        os._exit(INTERRUPTED if number == signal.SIGINT else STOPPED)

    for number in SIGNALS:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, leave)


def _say(number: int) -> None:
    how = "stopped" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # a closed terminal; a line that is being printed
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        os.write(2, f"{how}; the same command continues\n".encode())
