"""Leaving a run on a signal, outside the training."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from dinodiet.io.leaving import signals_to
from dinodiet.store.status import Preempted


@contextlib.contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Leave at once on a signal, where there is nothing to save: while parts are built and embeddings computed.

    Another one does not disturb the leaving, except Ctrl-C.
    """
    left: list[int] = []

    def leave(number: int, frame: FrameType | None) -> None:
        if left and number != signal.SIGINT:
            return
        left.append(number)
        raise Preempted(signal.Signals(number).name)

    with signals_to(leave):
        try:
            yield
        except Exception as error:
            if not left:
                raise
            # A library that was broken off cleans up what is half done, and that may fail.
            raise Preempted(signal.Signals(left[0]).name) from error
