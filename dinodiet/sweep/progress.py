"""What the command that drives a sweep shows: a line for every cell that ends, a bar, and the summary."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from tqdm import tqdm

from dinodiet.store.rundir import RunDir
from dinodiet.store.states import CellState, CellStatus

UNFINISHED = (CellState.FAILED, CellState.STOPPED, CellState.MISSING, CellState.QUEUED, CellState.RUNNING)


class Progress:
    """A context that counts the cells that end. The bar is drawn on a terminal; a log gets lines alone."""

    def __init__(self, total: int, done: int) -> None:
        self._total, self._ended = total, done
        self._begun = time.monotonic()
        self._bar: tqdm[Any] | None = None

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            self._bar = tqdm(total=self._total, initial=self._ended, desc="sweep", unit="run", dynamic_ncols=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.write(line)
        else:
            print(line, flush=True)

    def ended(self, status: CellStatus) -> None:
        """Hear of a cell that ended, one way or another."""
        self._ended += 1
        reason = f": {status.reason}" if status.reason else ""
        self.say(f"[{self._ended}/{self._total}] {status.state.value:<7} {status.run_id}{reason}")
        if self._bar is not None:
            self._bar.update()

    def show(self, statuses: Iterable[CellStatus]) -> None:
        """Show next to the bar how many cells wait and run."""
        if self._bar is not None:
            self._bar.set_postfix_str(counts(statuses))


def counts(statuses: Iterable[CellStatus]) -> str:
    """Return `3 done, 1 failed` in the order of `CellState`."""
    found = Counter(status.state for status in statuses)
    return ", ".join(f"{found[state]} {state.value}" for state in CellState if found[state])


def summary(title: str, statuses: Sequence[CellStatus]) -> str:
    """Return the states of a sweep: counts, then every cell that is not done, by name, with reason and log file."""
    lines = [f"{title}: {len(statuses)} runs: {counts(statuses)}"]
    for status in statuses:
        if status.state in UNFINISHED:
            step = f" at step {status.step} of {status.total_steps}" if status.step and status.total_steps else ""
            reason = f": {status.reason}" if status.reason else ""
            lines.append(f"  {status.state.value:<8}{status.run_id}{step}{reason}")
            log = RunDir(status.directory).log
            if status.state is not CellState.MISSING and log.exists():
                lines.append(f"          log: {log}")
    return "\n".join(lines)
