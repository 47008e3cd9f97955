"""What the command that drives a sweep shows: a line for every cell that ends, one for all of them, the summary."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from tqdm import tqdm

from dinodiet.io.colours import Colour, painted
from dinodiet.io.units import duration
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import IN_WORK, CellState, CellStatus

LOG_SECONDS = 60.0  # between two lines of the whole sweep in a log file
COLOURS: dict[CellState, Colour] = {
    CellState.DONE: "green",
    CellState.FAILED: "red",
    CellState.STOPPED: "yellow",
    CellState.BLOCKED: "yellow",
}


class Progress:
    """A context that counts the cells that end: a line for each, and one line for the whole sweep.

    On a terminal that line is drawn anew; a log gets it every `LOG_SECONDS`, as often as something is heard.

    Args:
        total: cells of the grid.
        before: the states of those that are not to be run now.
    """

    def __init__(self, total: int, before: Iterable[CellStatus] = ()) -> None:
        self._total, self._over = total, Counter(status.state for status in before)
        self._active = Counter[CellState]()
        self._before = self._over.total()
        self._begun = self._told = time.monotonic()
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar = tqdm(total=self._total, bar_format="{desc}", desc=self.line(), dynamic_ncols=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, line: str) -> None:
        """Print a line above that of the sweep."""
        if self._bar is not None:
            self._bar.write(line)
        else:
            print(line, flush=True)

    def ended(self, status: CellStatus) -> None:
        """Hear of a cell that ended, one way or another."""
        self._over[status.state] += 1
        reason = f": {status.reason}" if status.reason else ""
        state = painted(f"{status.state.value:<7}", COLOURS.get(status.state))
        self.say(f"[{self._over.total()}/{self._total}] {state} {status.run_id}{reason}")
        self._tell()

    def show(self, statuses: Iterable[CellStatus]) -> None:
        """Hear of the cells that wait and run at present."""
        self._active = Counter(status.state for status in statuses if status.state in IN_WORK)
        self._tell()

    def line(self) -> str:
        """Return the line of the whole sweep: cells by state, and about how long the rest takes."""
        counts = self._over + self._active
        states = ", ".join(f"{counts[state]} {state.value}" for state in CellState if counts[state])
        ended = self._over.total()
        now, left = ended - self._before, self._total - ended  # `now`: by this command
        rest = (time.monotonic() - self._begun) / now * left if now else None
        time_left = f", about {duration(rest)} left" if rest is not None and left else ""
        return f"sweep: {ended} of {self._total} runs ended{states and f' ({states})'}{time_left}"

    def _tell(self) -> None:
        if self._bar is not None:
            self._bar.set_description_str(self.line())
        elif time.monotonic() - self._told >= LOG_SECONDS:
            self._told = time.monotonic()
            self.say(self.line())


def counts(statuses: Iterable[CellStatus]) -> str:
    """Return `3 done, 1 failed` in the order of `CellState`."""
    found = Counter(status.state for status in statuses)
    return ", ".join(f"{found[state]} {state.value}" for state in CellState if found[state])


def summary(title: str, statuses: Sequence[CellStatus]) -> str:
    """Return the states of a sweep: counts, then every cell that is not done, by name, with reason and log file."""
    lines = [f"{title}: {len(statuses)} runs: {counts(statuses)}"]
    for status in statuses:
        if status.state is not CellState.DONE:
            step = f" at step {status.step} of {status.total_steps}" if status.step and status.total_steps else ""
            reason = f": {status.reason}" if status.reason else ""
            state = painted(f"{status.state.value:<8}", COLOURS.get(status.state))
            lines.append(f"  {state}{status.run_id}{step}{reason}")
            log = RunDir(status.directory).log
            if status.state is not CellState.MISSING and log.exists():
                lines.append(f"          log: {log}")
    return "\n".join(lines)
