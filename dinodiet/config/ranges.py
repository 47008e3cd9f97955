"""Ranges of numbers as annotations: what a setting may be stands at its signature, and is checked in `signature.py`.

`rate: Fraction[float] = 0.1` takes 0 to 1; `lr: NonNegative[Scalar]` a number from 0 on, or a schedule whose numbers
are held to that range too. A number without a range is finite. Imports nothing, as a light start needs it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`; an end that is `open` does not belong to them. True and false are none."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.open_low else self.low <= value
        below = value < self.high if self.open_high else value <= self.high
        return above and below

    def __str__(self) -> str:
        """Return the range in the words that follow `a number`."""
        if not (self.open_low or self.open_high or math.isinf(self.low) or math.isinf(self.high)):
            return f"from {_short(self.low)} to {_short(self.high)}"
        low = "" if math.isinf(self.low) else f"{'above' if self.open_low else 'of at least'} {_short(self.low)}"
        high = "" if math.isinf(self.high) else f"{'below' if self.open_high else 'of at most'} {_short(self.high)}"
        return " and ".join(filter(None, (low, high)))


@dataclass(frozen=True)
class Items:
    """A list of exactly these items, each with its own annotation; `rising`: none is smaller than the one before."""

    hints: tuple[Any, ...]
    rising: bool = False


def _short(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else f"{number:g}"


ANY = Range()  # a finite number, of which every value means something


@dataclass(frozen=True)
class Mark:
    """A word about a setting that is no range."""

    word: str


OUTCOME, NODE, JOINED = Mark("outcome"), Mark("node"), Mark("joined")

Finite = Annotated[T, ANY]
Positive = Annotated[T, Range(0, open_low=True)]
NonNegative = Annotated[T, Range(0)]
AtLeastOne = Annotated[T, Range(1)]
Fraction = Annotated[T, Range(0, 1)]
BelowOne = Annotated[T, Range(0, 1, open_high=True)]  # momenta, smoothing, drop rates: 1 would leave nothing
Between = Annotated[T, Range(0, 1, open_low=True, open_high=True)]  # a part that leaves a rest
Seed = Annotated[T, Range(0, 2**32 - 1)]  # what NumPy takes
Side = Annotated[T, Range(1, 4096)]  # of images, in pixels
Width = Annotated[T, Range(1, 2**14)]  # of a layer
Temperature = Annotated[T, Range(1e-3, 1e3)]  # of a softmax
# What a schedule returns lies between numbers that are annotated so: they have the range of what the schedule is for.
Outcome = Annotated[T, OUTCOME]
Joined = Annotated[T, JOINED]  # a list of names, which may be written as one text, joined by _
