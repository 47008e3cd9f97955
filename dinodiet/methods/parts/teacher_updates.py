"""When a teacher follows its student, as a momentum at every step: 1 leaves it as it is, 0 copies the student."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dinodiet.errors import UserError
from dinodiet.schedules import Scalar
from dinodiet.types import Clock

Update = Literal["ema", "epoch", "none"]


@dataclass(frozen=True)
class CopyByEpoch:
    """0 at the last step of every `every`-th epoch, else 1."""

    every: int

    def __call__(self, clock: Clock) -> float:
        """Return the momentum at the clock's step."""
        done = clock.step + 1
        return 0.0 if done % (self.every * clock.steps_per_epoch) == 0 else 1.0


def momentum_of(update: Update, momentum: Scalar, every_epochs: int) -> Scalar:
    """Return the momentum of an update; `momentum` is that of ema, `every_epochs` the period of epoch."""
    return _MOMENTA[update](momentum, every_epochs)


_MOMENTA: dict[Update, Callable[[Scalar, int], Scalar]] = {
    "ema": lambda momentum, every: momentum,
    "epoch": lambda momentum, every: CopyByEpoch(every),
    "none": lambda momentum, every: 1.0,
}


def check_update(update: Update, momentum: Scalar | None, every_epochs: int) -> None:
    """Refuse what an update does not have.

    Raises:
        UserError: a momentum without a moving average, or a period without copies.
    """
    if momentum is not None and update != "ema":
        raise UserError(f"teacher.momentum: is of teacher.update=ema, which is {update}; leave it at null")
    if every_epochs != 1 and update != "epoch":
        raise UserError(
            f"teacher.every_epochs: {every_epochs} is of teacher.update=epoch, which is {update}; leave it at 1"
        )
