"""What the runs of a grid are expected to take: time of training, device hours, energy, and the limit of a job."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from dinodiet.errors import UserError
from dinodiet.io.units import duration, energy
from dinodiet.store.spent import JOULES_PER_KWH
from dinodiet.store.states import CellState, CellStatus
from dinodiet.sweep.planning.estimate import Estimate

LIMIT_FACTOR, LIMIT_MORE, LIMIT_STEP = 2, 10, 10  # a job may take twice what is expected, and ten minutes; whole tens
Expected = tuple[CellStatus, Estimate]
Quantity = Callable[[Estimate], float | None]


def expected_lines(runs: Sequence[Expected], asked: str) -> list[str]:
    """Return the lines of a plan: how long trainings take one after another, and what whole runs take.

    Args:
        runs: state and estimate of each run that can be built.
        asked: the device that they ask for, in words, where nothing tells of one.
    """
    if not runs:
        return []
    known = [found for found in runs if found[1].seconds is not None]
    if not known:
        return [f"time unknown: no finished run of that model and method, and no mode=measure, tells a rate on {asked}"]
    devices = sorted({found.pace.device for _, found in known if found.pace is not None})
    without = f"; {len(runs) - len(known)} runs have no measured rate" if len(known) < len(runs) else ""
    whole, left = (duration(number) for number in _sums(known, lambda found: found.seconds))
    told = (
        f"{whole} of training in all, {left} of it to do, at rates measured on {', '.join(devices) or asked}{without}"
    )
    return [told, *_costs(runs)]


def _costs(runs: Sequence[Expected]) -> list[str]:
    """Return what whole runs take, their starts and scores too, where finished runs tell that."""
    known = [found for found in runs if device_hours(found[1]) is not None]
    if not known:
        return []
    hours, hours_left = _sums(known, device_hours)
    told = f"{hours:.3g} device hours in all, {hours_left:.3g} of them to do"
    if any(kwh(found) is not None for _, found in known):
        told += ", {} in all, {} to do".format(*map(energy, _sums(known, kwh)))
    missing = len(runs) - len(known)
    without = f"; of {missing} runs nothing tells" if missing else ""
    return [f"{told}: with starts and scores, as the last run of each kind took{without}"]


def device_hours(found: Estimate) -> float | None:
    """Return the hours of a whole run times the devices that it holds."""
    seconds = whole_seconds(found)
    return None if seconds is None or found.pace is None else seconds * found.pace.devices / 3600


def kwh(found: Estimate) -> float | None:
    """Return the energy of a whole run."""
    seconds = whole_seconds(found)
    if seconds is None or found.pace is None or found.pace.watts is None:
        return None
    return seconds * found.pace.watts / JOULES_PER_KWH


def whole_seconds(found: Estimate) -> float | None:
    """Return the seconds of a whole run."""
    return None if found.pace is None or found.steps is None else found.pace.whole(found.steps)


def limit_minutes(estimates: Iterable[Estimate | UserError]) -> int | None:
    """Return the time limit that jobs need of which the longest is expected to take so long; None: one is unknown."""
    seconds = [whole_seconds(found) if isinstance(found, Estimate) else None for found in estimates]
    known = [one for one in seconds if one is not None]
    if not known or len(known) < len(seconds):
        return None
    return math.ceil((LIMIT_FACTOR * max(known) / 60 + LIMIT_MORE) / LIMIT_STEP) * LIMIT_STEP


def _sums(runs: Sequence[Expected], quantity: Quantity) -> tuple[float, float]:
    """Return the sum of what is known over all runs, and over what is to do of them."""
    whole, left = 0.0, 0.0
    for status, found in runs:
        number = quantity(found) or 0.0
        whole += number
        if status.state is not CellState.DONE:
            left += number * (1 - (status.step or 0) / max(found.steps or 0, 1))
    return whole, left
