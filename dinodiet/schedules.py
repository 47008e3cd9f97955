"""Schedules: clock -> value. Durations carry their unit in their name and become steps here, once.

The warm-up and cosine arithmetic of `Cosine` is that of the published DINO code (Caron et al. 2021, arXiv:2104.14294):
a warm-up of W steps is `linspace(start, value, W)` with both ends, and the cosine that follows starts at `value` again;
its last step is one short of `final`. `Linear`, `HalfCosine` and `Exponential` reach both of their ends and then stay
at the second: with a duration they are warm-ups, and `Concatenation` puts them one after another.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from dinodiet.config.ranges import Fraction, NonNegative, Outcome, Positive
from dinodiet.errors import UserError
from dinodiet.types import Clock

Schedule: TypeAlias = Callable[[Clock], float]
Scalar: TypeAlias = float | Schedule


def at(value: Scalar, clock: Clock) -> float:
    """Return the value of a number or schedule at the clock's time."""
    return value(clock) if callable(value) else value


def duration(clock: Clock, *, steps: float | None, epochs: float | None, fraction: float | None, name: str) -> int:
    """Return a duration in steps from whichever of its three units is given (none: 0).

    Raises:
        UserError: more than one unit is given.
    """
    check_one_unit(**{f"{name}_steps": steps, f"{name}_epochs": epochs, f"{name}_fraction": fraction})
    if steps is not None:
        return round(steps)
    if epochs is not None:
        return round(epochs * clock.steps_per_epoch)
    return round((fraction or 0.0) * clock.total_steps)


def check_one_unit(**units: float | None) -> None:
    """Refuse a duration that is given in several units.

    Raises:
        UserError: naming them.
    """
    given = [key for key, value in units.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"{' and '.join(given)} are all set; give one of them")


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up from `start` to `value`, then half a cosine to `final`.

    `per: epoch` holds the value constant within an epoch. `max_warmup_fraction` caps a warm-up given in steps.
    """

    value: Outcome[float]
    final: Outcome[float] = 0.0
    start: Outcome[float] = 0.0
    warmup_steps: NonNegative[float | None] = None
    warmup_epochs: NonNegative[float | None] = None
    warmup_fraction: Fraction[float | None] = None
    max_warmup_fraction: Fraction[float] = 1.0
    per: Literal["step", "epoch"] = "step"

    def __post_init__(self) -> None:
        units = {"warmup_steps": self.warmup_steps, "warmup_epochs": self.warmup_epochs}
        check_one_unit(**units, warmup_fraction=self.warmup_fraction)

    def __call__(self, clock: Clock) -> float:
        """Return the value at the clock's step."""
        step, total = clock.step, clock.total_steps
        warmup = duration(
            clock, steps=self.warmup_steps, epochs=self.warmup_epochs, fraction=self.warmup_fraction, name="warmup"
        )
        warmup = min(warmup, round(self.max_warmup_fraction * total))
        if self.per == "epoch":
            step, total = clock.epoch, math.ceil(clock.total_epochs)
            warmup = round(warmup / clock.steps_per_epoch)
        if step < warmup:
            return self.start + (self.value - self.start) * (step / (warmup - 1) if warmup > 1 else 0.0)
        progress = (step - warmup) / max(total - warmup, 1)
        return self.final + (self.value - self.final) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


@dataclass(frozen=True)
class Linear:
    """From `start` to `final` in equal increments, both ends included, then `final`; `per` as in `Cosine`."""

    start: Outcome[float]
    final: Outcome[float]
    steps: NonNegative[float | None] = None
    epochs: NonNegative[float | None] = None
    fraction: Fraction[float | None] = None
    max_fraction: Fraction[float] = 1.0
    per: Literal["step", "epoch"] = "step"

    def __post_init__(self) -> None:
        check_one_unit(steps=self.steps, epochs=self.epochs, fraction=self.fraction)

    def __call__(self, clock: Clock) -> float:
        """Return the value at the clock's step."""
        length = duration(clock, steps=self.steps, epochs=self.epochs, fraction=self.fraction, name="length")
        length = min(length, round(self.max_fraction * clock.total_steps))
        step = clock.step
        if self.per == "epoch":
            step, length = clock.epoch, round(length / clock.steps_per_epoch)
        if step >= length:
            return self.final
        return self.start + (self.final - self.start) * (step / (length - 1) if length > 1 else 0.0)


@dataclass(frozen=True)
class Staged:
    """Piecewise constant: `values[i]` from the i-th of equally long stages, or up to the fractions in `until`."""

    values: Outcome[list[float]]
    until: Fraction[list[float] | None] = None

    def __post_init__(self) -> None:
        if not self.values or (self.until is not None and len(self.until) != len(self.values) - 1):
            raise UserError(f"until: {self.until}; give one fraction fewer than values ({len(self.values)})")

    def __call__(self, clock: Clock) -> float:
        """Return the value of the running stage."""
        count = len(self.values)
        until = self.until if self.until is not None else [(i + 1) / count for i in range(count - 1)]
        stage = sum(clock.step >= fraction * clock.total_steps for fraction in until)
        return self.values[stage]


@dataclass(frozen=True)
class HalfCosine:
    """From `start` to `final` along half a cosine, both ends included, then `final`.

    Without a duration it takes the whole training. One of a single step holds `start`. Fields are spelled out in each
    class here: a configuration is held against the source of a class alone (`config.precheck`).
    """

    start: Outcome[float]
    final: Outcome[float]
    steps: NonNegative[float | None] = None
    epochs: NonNegative[float | None] = None
    fraction: Fraction[float | None] = None

    def __post_init__(self) -> None:
        check_one_unit(steps=self.steps, epochs=self.epochs, fraction=self.fraction)

    def __call__(self, clock: Clock) -> float:
        """Return the value at the clock's step."""
        done = _progress(clock, self.steps, self.epochs, self.fraction)
        return self.start + (self.final - self.start) * (1 - math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class Exponential:
    """From `start` to `final` by one factor a step, both ends included, then `final`; durations as in `HalfCosine`."""

    start: Positive[Outcome[float]]
    final: Positive[Outcome[float]]
    steps: NonNegative[float | None] = None
    epochs: NonNegative[float | None] = None
    fraction: Fraction[float | None] = None

    def __post_init__(self) -> None:
        check_one_unit(steps=self.steps, epochs=self.epochs, fraction=self.fraction)

    def __call__(self, clock: Clock) -> float:
        """Return the value at the clock's step."""
        done = _progress(clock, self.steps, self.epochs, self.fraction)
        return float(self.start ** (1 - done) * self.final**done)


def _progress(clock: Clock, steps: float | None, epochs: float | None, fraction: float | None) -> float:
    """Return how far a stretch is: 0 at its first step, 1 from its last step on. Without a duration it is all."""
    whole = steps is None and epochs is None and fraction is None
    fraction = 1.0 if whole else fraction
    length = duration(clock, steps=steps, epochs=epochs, fraction=fraction, name="length")
    if clock.step >= length:
        return 1.0
    return clock.step / (length - 1) if length > 1 else 0.0


@dataclass(frozen=True)
class MultiStep:
    """`value`, multiplied by `factor` at each milestone: after so many steps, epochs, and fractions of the training.

    A fraction is cut off to a step, so that what lies between two steps counts from the earlier one.
    """

    value: Outcome[float]
    factor: NonNegative[float]
    steps: NonNegative[list[float] | None] = None
    epochs: NonNegative[list[float] | None] = None
    fractions: Fraction[list[float] | None] = None

    def __call__(self, clock: Clock) -> float:
        """Return the value at the clock's step."""
        milestones = [round(steps) for steps in self.steps or ()]
        milestones += [round(epochs * clock.steps_per_epoch) for epochs in self.epochs or ()]
        milestones += [int(fraction * clock.total_steps) for fraction in self.fractions or ()]
        return self.value * self.factor ** sum(clock.step >= milestone for milestone in milestones)


@dataclass(frozen=True)
class Part:
    """A number or schedule that lasts so long within a `Concatenation`, and sees that time as its whole training."""

    value: Outcome[Scalar]
    steps: NonNegative[float | None] = None
    epochs: NonNegative[float | None] = None
    fraction: Fraction[float | None] = None

    def __post_init__(self) -> None:
        check_one_unit(steps=self.steps, epochs=self.epochs, fraction=self.fraction)
        if self.steps is None and self.epochs is None and self.fraction is None:
            raise UserError("steps: null; give one of steps, epochs, fraction, which says how long the part lasts")

    def length(self, clock: Clock) -> int:
        """Return how long the part lasts, in steps."""
        return duration(clock, steps=self.steps, epochs=self.epochs, fraction=self.fraction, name="length")

    def __call__(self, clock: Clock) -> float:
        """Return the value at the step of a clock of this part."""
        return at(self.value, clock)


@dataclass(frozen=True)
class Concatenation:
    """Numbers and schedules one after another.

    A `Part` lasts as it says. What is none takes the steps that the parts leave, and there may be one such; without it
    the last value is held. A part of no steps is passed over; where the training ends before a part, it is cut off.
    """

    parts: Outcome[list[Scalar]]

    def __post_init__(self) -> None:
        rest = sum(not isinstance(part, Part) for part in self.parts)
        if not self.parts or rest > 1:
            raise UserError(f"parts: {rest} of {len(self.parts)} have no duration; all need one but for one of them")

    def __call__(self, clock: Clock) -> float:
        """Return the value at the clock's step, by the part that runs then."""
        lasting = [part.length(clock) if isinstance(part, Part) else None for part in self.parts]
        rest = max(0, clock.total_steps - sum(length or 0 for length in lasting))
        lengths = [rest if length is None else length for length in lasting]
        running, start, length, begin = self.parts[-1], 0, 1, 0
        for part, steps in zip(self.parts, lengths, strict=True):
            if steps and begin <= clock.step:
                running, length, start = part, steps, begin
            begin += steps
        step = min(clock.step - start, length - 1)
        return at(running, replace(clock, step=step, total_steps=length))


def scale_peak(value: Scalar, factor: float) -> Scalar:
    """Return a number or `Cosine` with its peak scaled, as by a batch size; a cosine's final value stays.

    Raises:
        UserError: another kind of schedule, which has no one peak.
    """
    if not callable(value):
        return value * factor
    if not isinstance(value, Cosine):
        raise UserError("schedule.lr_reference_batch: only a number or a Cosine can be scaled; set it to null")
    return replace(value, value=value.value * factor)
