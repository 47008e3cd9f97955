"""Defaults for the contract of records (`dinodiet.types.Record`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from dinodiet.config.ranges import AtLeastOne
from dinodiet.types import Batch, Clock, Method, Recorded, RecordMemory, Row


class RecordBase:
    """A record that writes nothing; what is derived from it overrides what it needs.

    Args:
        every_steps: steps from one row to the next.
    """

    run: Recorded

    def __init__(self, *, every_steps: AtLeastOne[int] = 1) -> None:
        self.every_steps = every_steps

    def memory(self, method: Method) -> RecordMemory:
        """Return that it takes nothing."""
        return RecordMemory()

    def prepare(self, run: Recorded) -> None:
        """Take hold of a run."""
        self.run = run

    def begin(self) -> Sequence[Row]:
        """Return no rows of step 0."""
        return []

    def on_gradients(self, clock: Clock, batch: Batch) -> None:
        """Look at nothing."""

    def on_step(self, clock: Clock, logs: Mapping[str, Tensor]) -> Sequence[Row]:
        """Return no rows."""
        return []

    def state(self) -> dict[str, Any]:
        """Return nothing: rows depend on the step alone."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up nothing."""
