"""Whether a training learns anything: what fails quietly is told, as nothing else shows it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from dinodiet.run.console import warn
from dinodiet.types import Clock

SHORTEST = 20  # steps after which a whole training tells anything
EARLIEST = 50  # steps after which the first tenth does: fresh heads are worse than guessing at first
FALL = 0.005  # of the value for guessing: how far below a loss that learns is at least
COLLAPSED = 1.1  # effective rank of a batch: 1 where all embeddings are parallel, 3 and more in a fresh network
NARROW = 0.1  # spread of projections: 0 where all are one, 1 where they point in all directions
SMALLEST_SCALE = 1.0  # of fp16's loss: it begins at 65,536 and halves at each step that overflows


def is_due(clock: Clock, window: int) -> bool:
    """Return whether a training is to be judged now: once after its first tenth, and once at its end.

    Short trainings are judged at their end alone.

    Args:
        clock: `clock.step` steps are done.
        window: the steps since the last question; only one window holds the end of the first tenth.
    """
    tenth = max(math.ceil(clock.total_steps / 10), EARLIEST)
    is_early = clock.step - window < tenth <= clock.step and clock.total_steps >= 4 * EARLIEST
    return is_early or clock.step == clock.total_steps >= SHORTEST


def tell(clock: Clock, findings: Iterator[str]) -> None:
    """Print each finding as a warning, and the step that it was made at."""
    step = f"at step {clock.step:,} of {clock.total_steps:,}"
    warn(f"{step} {finding}" for finding in findings)


def guesses(means: Mapping[str, float], guessing: Mapping[str, float]) -> Iterator[str]:
    """Find mean losses that are not below `Method.guessing`."""
    for name, value in guessing.items():
        if means.get(name, 0.0) > (1 - FALL) * value:
            found = f"{name} is {means[name]:.4f}, guessing gives {value:.4f}: nothing is learned"
            yield f"{found}; try a higher schedule.lr, or more schedule.epochs"


def collapses(diagnostics: Mapping[str, float]) -> Iterator[str]:
    """Find embeddings of a batch that are all one direction."""
    if (rank := diagnostics.get("effective_rank", math.inf)) < COLLAPSED:
        found = f"effective_rank is {rank:.2f}: all images have one embedding, the training collapsed"
        yield f"{found}; try a lower schedule.lr, or a larger schedule.batch_size"
    if (spread := diagnostics.get("projection_spread", math.inf)) < NARROW:
        found = f"projection_spread is {spread:.3f}: all projections are nearly one, the training collapses"
        yield f"{found}; try a lower schedule.lr, or a slower teacher (method.teacher.momentum)"


def overflows(scaler: torch.amp.GradScaler) -> Iterator[str]:
    """Find a loss scale of fp16 that fell so low that nearly all steps were left out."""
    if scaler.is_enabled() and (scale := scaler.get_scale()) < SMALLEST_SCALE:
        found = f"the loss scale of fp16 is {scale:.2g}: gradients overflow, and such steps change nothing"
        yield f"{found}; try precision=bf16, or a lower schedule.lr"


def worsens(results: Mapping[str, Any]) -> Iterator[str]:
    """Find the scores of a finished run whose initial value is better than the whole interval of the final one.

    All of a run are one finding, told of the first; what was scored in another way before is not compared.
    """
    found = [name for name in results["final"] if _is_worse(results, name)]
    if found:
        name, others = found[0], f", and {len(found) - 1} more scores fell" if len(found) > 1 else ""
        low, high = results["intervals"]["final"][name]
        change = f"from {results['initial'][name]:.3f} to {results['final'][name]:.3f} ({low:.3f} to {high:.3f})"
        yield (
            f"{name} went {change}{others}: the training made embeddings worse; try views that suit the images "
            "(method.views), a lower schedule.lr, or fewer blocks (method.trainable)"
        )


def _is_worse(results: Mapping[str, Any], name: str) -> bool:
    before, ends = results["initial"].get(name), results.get("intervals", {}).get("final", {}).get(name)
    if before is None or ends is None or name.rpartition("/")[0] in results.get("refused", {}):
        return False
    better: str = results.get("better", {}).get(name, "none")
    return (better == "higher" and before > ends[1]) or (better == "lower" and before < ends[0])
