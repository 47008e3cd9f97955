"""The contract of records: statistics of a run that are written down while it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

from dinodiet.types.data import Batch, Images, InputSpec
from dinodiet.types.method import Method
from dinodiet.types.runtime import Clock, Runtime

Row = Mapping[str, Any]  # numbers, or one-dimensional arrays, by column


@dataclass(frozen=True)
class Recorded:
    """The run that a record looks at.

    `validation` are the images that nothing is trained on, `input` how the backbone wants them, `accumulate` the parts
    of a step's batch. `clock` is at the first step.
    """

    method: Method
    optimizer: Optimizer
    validation: Images
    input: InputSpec
    runtime: Runtime
    clock: Clock
    accumulate: int = 1


@dataclass(frozen=True)
class RecordMemory:
    """Bytes that a record takes: `kept` all the time, and at the `moment` of a row, beside what the run holds."""

    kept: int = 0
    moment: int = 0


class Record(Protocol):
    """Statistics of a run, every `every_steps` steps and after the last one. A record changes no trained number.

    `prepare` comes first. Then, of a run that begins, `begin`; of one that goes on, `restore` with the `state` that the
    checkpoint holds. Of a step that is recorded, `on_gradients` comes after the backward pass, when gradients are
    unscaled and not yet clipped, and `on_step` after the optimiser's step, when the teacher has followed.
    """

    every_steps: int

    def memory(self, method: Method) -> RecordMemory:
        """Return what it takes of a method without values, for a plan; let the method keep what `prepare` lets it."""
        ...

    def prepare(self, run: Recorded) -> None:
        """Take hold of a run, before any work.

        Raises:
            UserError: the method or the data cannot give what is to be recorded.
        """
        ...

    def begin(self) -> Sequence[Row]:
        """Return the rows of step 0, before the first step; keep what later ones are compared with."""
        ...

    def on_gradients(self, clock: Clock, batch: Batch) -> None:
        """Look at the gradients of a step; `clock.step` steps were done before it."""
        ...

    def on_step(self, clock: Clock, logs: Mapping[str, Tensor]) -> Sequence[Row]:
        """Return the rows of a step; `clock.step` steps are done. `logs` is what the method returned."""
        ...

    def state(self) -> dict[str, Any]:
        """Return, for a checkpoint, what a resumed run needs to write the same rows."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up that state; it is empty where the run was begun without this record."""
        ...
