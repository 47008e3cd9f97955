"""Numbers that follow a schedule: held against the range of what they are for, at the values that they take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dinodiet.config.build import build, hints_of_part
from dinodiet.config.describe import describe
from dinodiet.config.fits import fits
from dinodiet.config.settings import Settings, hints_below
from dinodiet.config.signature import Hints, Node, number_in, targets
from dinodiet.errors import UserError, one_line
from dinodiet.types import Clock

MOST_STEPS = 2000  # that are looked at: of a longer training the first and the last of them, and some between


def check_scheduled(settings: Settings, clock: Clock) -> None:
    """Hold every schedule of the settings against the range of its number, from the first step to the last.

    A warm-up from 0, say, suits a rate and no temperature. What a schedule returns is known only with the length of
    the training.

    Raises:
        UserError: one line that names the key, the value and its step, and what is valid.
    """
    for key, node, hint in _scheduled(settings):
        schedule = build(node, key)()
        for step in _steps(clock.total_steps):
            value = _value(schedule, clock.at(step), key)
            if not fits(value, hint):
                where = f"at step {step} of {clock.total_steps}"
                raise UserError(f"{key}: {value:.3g} {where}, by its schedule; must be {describe(hint)}")


def _scheduled(settings: Settings) -> Iterator[tuple[str, Node, Any]]:
    """Yield the key and node of every schedule, and the type of the number that it stands for."""
    yield from _in_node(settings.plain["schedule"], "schedule", hints_below("schedule."))
    for node, key in targets(settings.method, "method"):
        yield from _in_node(node, key, hints_of_part(str(node["_target_"])))


def _in_node(node: Node, key: str, hints: Hints) -> Iterator[tuple[str, Node, Any]]:
    for name, value in node.items():
        if isinstance(value, dict) and (number := number_in(hints.get(name, Any))) is not None:
            yield f"{key}.{name}", value, number


def _steps(total: int) -> Iterator[int]:
    """Yield the steps to look at, in order."""
    ends = MOST_STEPS // 4
    yield from range(min(ends, total))
    yield from range(ends, total - ends, max((total - 2 * ends) // (2 * ends), 1))
    yield from range(max(total - ends, ends), total)


def _value(schedule: Any, clock: Clock, key: str) -> float:
    try:
        return float(schedule(clock))
    except Exception as error:  # it may be one of one's own
        raise UserError(f"{key}: {type(error).__name__} at step {clock.step}: {one_line(error)}") from error
