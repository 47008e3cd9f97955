"""Whether a training learns anything: a loss that stays at its value for guessing is told, as nothing else fails."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping

from tqdm import tqdm

from dinodiet.types import Clock

SHORTEST = 20  # steps after which a whole training tells anything
EARLIEST = 50  # steps after which the first tenth does: fresh heads are worse than guessing at first
FALL = 0.005  # of the value for guessing: how far below a loss that learns is at least


def tell_guessing(clock: Clock, window: int, means: Mapping[str, float], guessing: Mapping[str, float]) -> None:
    """Tell losses that are not below those of guessing, once after the first tenth and once at the end.

    Short trainings are told of at their end alone.

    Args:
        clock: `clock.step` steps are done.
        window: the steps that the means are over; only one window holds the end of the first tenth.
        means: what was logged.
        guessing: `Method.guessing`.
    """
    tenth = max(math.ceil(clock.total_steps / 10), EARLIEST)
    is_early = clock.step - window < tenth <= clock.step and clock.total_steps >= 4 * EARLIEST
    if not (is_early or clock.step == clock.total_steps >= SHORTEST):
        return
    so_far = "" if clock.step == clock.total_steps else " so far"
    for name, value in guessing.items():
        if means.get(name, 0.0) > (1 - FALL) * value:
            tqdm.write(
                f"warning: {name} is {means[name]:.4f} at step {clock.step:,} of {clock.total_steps:,}, guessing gives "
                f"{value:.4f}: nothing is learned{so_far}; try a higher schedule.lr, or more schedule.epochs",
                file=sys.stderr,
            )
