"""How long a step of a training takes: some steps of it are taken for real, at several places of its schedule."""

from __future__ import annotations

import contextlib
import itertools
import statistics
import time

import torch

from dinodiet.config.rates import Rate
from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.io import machine
from dinodiet.run.parts import Parts, build_parts
from dinodiet.run.train import begin, train
from dinodiet.types import Clock

PLACES = 8  # of the schedule, evenly: a step is shorter while a backbone waits frozen
STEPS = 8  # at each place; the first one is not timed, as what begins there is set up in it


def measured_rate(settings: Settings) -> Rate:
    """Return the rate of a training as it would run here, its images read and its views drawn.

    What comes once is not in it: caches that are filled before the first step, scores, the first step after a start.
    What was trained is thrown away.

    Raises:
        UserError: a part refuses its settings, or the training has too few steps to be measured.
    """
    parts = build_parts(settings)
    clock = parts.state.clock
    if clock.total_steps < 2:
        raise UserError(f"schedule.epochs: {clock.total_steps} step in all; a rate is measured from 2 on")
    begin(parts)
    seconds = [_seconds(parts, clock.at(step)) for step in places(clock.total_steps)]
    device = machine.describe_device(parts.runtime.device)
    return Rate(statistics.fmean(seconds), clock.steps_per_epoch, device)


def places(total: int) -> list[int]:
    """Return the steps at which measuring begins: the middles of equal parts, none too near to the end."""
    return [min(round((place + 0.5) / PLACES * total), max(total - STEPS, 0)) for place in range(PLACES)]


def _seconds(parts: Parts, clock: Clock) -> float:
    """Return the mean seconds of a step from `clock.step` on."""
    ends: list[float] = []
    batches, device = itertools.islice(parts.loader.batches(clock.step), STEPS), parts.runtime.device
    with contextlib.suppress(StopIteration):  # there are no more batches
        train(parts, lambda *_: ends.append(_now(device)), clock=clock, batches=batches)
    return (ends[-1] - ends[0]) / (len(ends) - 1)


def _now(device: torch.device) -> float:
    """Return the time at which a device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
