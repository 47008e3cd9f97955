"""A tracker never stops a run: what it raises, or that it does not answer, becomes one warning."""

from __future__ import annotations

import copy
import queue
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dinodiet.errors import NotBuilt, UserError, one_line
from dinodiet.types import Tracker

SECONDS = 45.0  # that a run waits for one call
Call = Callable[[Tracker], None]


class Guarded:
    """A tracker that never stops a run: it gets one warning, whatever it raises, and is then asked no more.

    It is made and called in a thread of its own, for which the run waits `SECONDS` at a time. What raises SystemExit
    there ends nothing, and Ctrl-C reaches the run alone.

    Args:
        make: makes the tracker.

    Raises:
        UserError: the settings of the tracker are refused.
    """

    def __init__(self, make: Callable[[], Tracker]) -> None:
        self._name = "tracker"
        self._tracker: Tracker
        self._thread: _Thread | None = _Thread()
        self._try(lambda: self._make(make))

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Begin, or continue, the record of a run."""
        own = copy.deepcopy(config)
        self._try(lambda: self._tracker.start(run_id, own, folder))

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Note metrics at an optimiser step."""
        own = dict(metrics)
        self._try(lambda: self._tracker.log(own, step))

    def figure(self, name: str, path: Path) -> None:
        """Show an image file."""
        self._try(lambda: self._tracker.figure(name, path))

    def table(self, name: str, path: Path) -> None:
        """Show a CSV file."""
        self._try(lambda: self._tracker.table(name, path))

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Note the final scores and close the record."""
        own = dict(summary)
        self._try(lambda: self._tracker.finish(own, exit_code))
        if self._thread is not None:
            self._thread.leave()

    def _make(self, make: Callable[[], Tracker]) -> None:
        self._tracker = make()
        self._name = type(self._tracker).__name__

    def _try(self, act: Callable[[], None]) -> None:
        if self._thread is None:
            return
        error = self._thread.call(act)
        if error is None:
            return
        self._thread.leave()
        self._thread = None
        if isinstance(error, UserError) and not isinstance(error, NotBuilt) and not hasattr(self, "_tracker"):
            raise error
        tell(f"tracker: {self._name} failed ({_reason(error)}); the run goes on without it")


class _Thread:
    """Does calls one after another. It ends with the process, also in the middle of a call."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], queue.SimpleQueue[BaseException | None]] | None]
        self._calls = queue.SimpleQueue()
        threading.Thread(target=self._work, name="tracker", daemon=True).start()

    def call(self, act: Callable[[], None]) -> BaseException | None:
        """Do a call and return what it raised; `TimeoutError` where it is not over in time."""
        answer: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._calls.put((act, answer))
        try:
            return answer.get(timeout=SECONDS)
        except queue.Empty:
            return TimeoutError(f"no answer in {SECONDS:.0f} s")

    def leave(self) -> None:
        """End after the calls that wait."""
        self._calls.put(None)

    def _work(self) -> None:
        while (item := self._calls.get()) is not None:
            act, answer = item
            try:
                act()
            except BaseException as error:  # SystemExit too: only this thread would end
                answer.put(error)
            else:
                answer.put(None)


def _reason(error: BaseException) -> str:
    kind, text = type(error).__name__, one_line(error)
    return kind if text == kind else f"{kind}: {text}"


def tell(text: str) -> None:
    """Warn; where warnings are errors, print the text: a tracker stops no run there either."""
    try:
        warnings.warn_explicit(text, UserWarning, "tracker", 1)  # one line: no place in the source helps anyone
    except UserWarning:
        print(f"warning: {text}", file=sys.stderr, flush=True)
