"""States and tables that are drawn again while a sweep runs, until all of its cells have ended."""

from __future__ import annotations

import contextlib
import gc
import io
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from dinodiet.io.units import duration
from dinodiet.results.locate import locate
from dinodiet.store.grid import read_jobs
from dinodiet.store.queue import active_jobs
from dinodiet.store.states import IN_WORK, CellState, states

TO_END = (*IN_WORK, CellState.MISSING)
CLEARED = "\x1b[H\x1b[2J"  # the cursor to the top, and nothing below it
PROGRESS = "  running "  # how lines begin that say how far runs are


class _Drawn(io.StringIO):
    """What is about to be printed to a stream, in colours where the stream shows them."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream

    def isatty(self) -> bool:
        return self._stream.isatty()


def watch(paths: Sequence[Path | str], seconds: float, draw: Callable[[], None]) -> None:
    """Print what `draw` prints, again and again, until no cell of the studies goes on, waits or is still to begin.

    On a terminal the screen is drawn anew every `seconds`; elsewhere it is printed where more has changed than how far
    the running runs are.

    Raises:
        UserError: no such path, or nothing below it is a run or a study.
    """
    gc.enable()  # this may take days
    before: list[str] | None = None
    while True:
        open_cells = still_open(paths)  # first: what ends meanwhile is drawn once more
        with contextlib.redirect_stdout(drawn := _Drawn(sys.stdout)):
            draw()
        text = drawn.getvalue()
        lines = [line for line in text.splitlines() if not line.startswith(PROGRESS)]
        if sys.stdout.isatty():
            note = f"{open_cells} runs to end; again every {duration(seconds)}; Ctrl-C leaves" if open_cells else ""
            print(f"{CLEARED}{text}\n{time.strftime('%H:%M:%S')} {note}", flush=True)
        elif lines != before:
            print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{text}", flush=True)
        if not open_cells:
            return
        before = lines
        time.sleep(seconds)


def still_open(paths: Sequence[Path | str]) -> int:
    """Return how many runs below the paths go on, wait, or are still to begin."""
    whole, single = locate(paths)
    found = 0
    for study in {**whole, **single}:
        judged = states(study, active=active_jobs() if read_jobs(study) else None)
        names = None if study in whole else {*single[study]}
        found += sum(one.state in TO_END for one in judged if names is None or one.run_id in names)
    return found
