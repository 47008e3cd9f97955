"""What a run has spent over all its starts: time, devices, energy. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from dinodiet.io.files import is_number

KEY = "spent"  # of status.json and results.json
JOULES_PER_KWH = 3.6e6


@dataclass(frozen=True)
class Spent:
    """What a run has spent up to a moment, in all its starts: building, scoring and lost work included.

    Attributes:
        seconds: while it was at work.
        device_seconds: seconds times the GPUs that it held; without GPUs, times its processes. Of a GPU that runs
            share, each holds its part.
        joules: that its GPUs used; None: unknown, at least of one start.
        starts: how many there were.
    """

    seconds: float = 0.0
    device_seconds: float = 0.0
    joules: float | None = 0.0
    starts: int = 0

    @property
    def device_hours(self) -> float:
        """Hours times devices."""
        return self.device_seconds / 3600

    @property
    def energy_kwh(self) -> float | None:
        """Energy in kWh."""
        return None if self.joules is None else self.joules / JOULES_PER_KWH


@dataclass(frozen=True)
class Devices:
    """What a run holds while it works.

    Attributes:
        number: GPUs, or processes without one.
        joules: returns what the GPUs have used since some moment; None: unknown.
    """

    number: float = 1.0
    joules: Callable[[], float | None] = lambda: None


def spent_in(content: Mapping[str, Any]) -> Spent | None:
    """Return what a status or results say was spent; None where they do not, as those of older versions."""
    found = content.get(KEY)
    if not isinstance(found, dict) or found.keys() != Spent.__dataclass_fields__.keys():
        return None
    joules = found["joules"]
    known = all(is_number(value) and value >= 0 for key, value in found.items() if key != "joules")
    return Spent(**found) if known and (joules is None or (is_number(joules) and joules >= 0)) else None


def as_content(spent: Spent | None) -> dict[str, Any] | None:
    """Return what is written of it."""
    return None if spent is None else asdict(spent)


class Spending:
    """Measures what a start of a run spends, from now on.

    Args:
        devices: what it holds.
        before: the status that the start before left; empty where there was none.
    """

    def __init__(self, devices: Devices, before: Mapping[str, Any]) -> None:
        begun_before = before.get("starts", 0) > 0
        self._before = spent_in(before) if begun_before else Spent()
        self._devices = devices
        self._begun, self._joules = time.monotonic(), devices.joules()

    def so_far(self) -> Spent | None:
        """Return what the run has spent in all its starts; None where an earlier one did not tell."""
        if self._before is None:
            return None
        before, seconds = self._before, time.monotonic() - self._begun
        return Spent(
            before.seconds + seconds,
            before.device_seconds + seconds * self._devices.number,
            self._used(before.joules),
            before.starts + 1,
        )

    def _used(self, before: float | None) -> float | None:
        """Return the joules of all starts; a counter that began anew, with its driver, tells nothing."""
        now = self._devices.joules()
        if before is None or self._joules is None or now is None or now < self._joules:
            return None
        return before + now - self._joules
