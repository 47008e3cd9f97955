"""How the process of a run ended, where the run itself could not say."""

from __future__ import annotations

import signal

from dinodiet.store.states import CellState, CellStatus
from dinodiet.store.status import Preempted


def how_it_died(status: CellStatus, code: int) -> str | None:
    """Return why a run is not finished whose process left with an exit code; None where its directory says all.

    Args:
        status: of the run, read after the process had ended.
        code: of the process; the negative number of a signal that killed it.
    """
    if status.state in (CellState.DONE, CellState.FAILED) or code in (0, Preempted.EXIT_CODE):
        return None
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"its process left with exit code {code}"
