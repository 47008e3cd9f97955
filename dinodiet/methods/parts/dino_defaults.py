"""DINO's settings by dataset size: the published ones suit ImageNet, and on few images they collapse.

The sizes and values are those of lightly-train's automatic settings. Durations are the published ones of a training of
100 epochs on ImageNet, in steps, and never more than the same part of the training at hand.
"""

from __future__ import annotations

from typing import Literal

from dinodiet.schedules import Cosine, Linear
from dinodiet.types import Clock, DataSpec

FEW, IMAGENET = 20_000, 1_281_167
OUT_DIMS = {20_000: 1_024, 50_000: 2_048, 100_000: 4_096, 200_000: 16_384, 500_000: 32_768}


def prototypes(num_images: int) -> int:
    """Return the number of prototypes: 1,024 up to 20,000 images, 65,536 above 500,000."""
    return next((out for most, out in OUT_DIMS.items() if num_images <= most), 65_536)


def outputs(out_dim: int | Literal["labels"] | None, spec: DataSpec) -> int:
    """Return the number of a head's outputs: as given, one a label, or prototypes by the number of images (None)."""
    if out_dim == "labels":
        return max(spec.num_labels, 1)
    return prototypes(spec.num_images) if out_dim is None else out_dim


def teacher_temp(num_images: int) -> Linear:
    """Return the teacher's temperature, final 0.02 (few images) to 0.07 (ImageNet), by epoch.

    It warms up from 0.04, or from the final value where that is lower, in 37,500 steps or 30 % of the training.
    """
    final = _between(num_images, 0.02, 0.07)
    return Linear(start=min(0.04, final), final=final, steps=37_500, max_fraction=0.3, per="epoch")


def momentum(num_images: int) -> Cosine:
    """Return the teacher's momentum, from 0.99 (few images) to 0.996 (ImageNet) at the start, to 1 at the end."""
    return Cosine(value=_between(num_images, 0.99, 0.996), final=1.0)


def freeze_last_layer_steps(clock: Clock) -> int:
    """Return for how many steps the last layer is not trained: 1,250, or 1 % of the training."""
    return min(1_250, round(0.01 * clock.total_steps))


def _between(num_images: int, few: float, imagenet: float) -> float:
    part = min(max((num_images - FEW) / (IMAGENET - FEW), 0.0), 1.0)
    return few + part * (imagenet - few)
