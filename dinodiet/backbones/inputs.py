"""The input of a backbone for a dataset: the side that the settings ask for, and what the weights expect of it."""

from __future__ import annotations

from collections.abc import Sequence

from dinodiet.errors import UserError
from dinodiet.types import DataSpec, InputSpec, Interpolation

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def chosen_side(spec: DataSpec, image_size: int | None) -> int | None:
    """Return the side of the input that the dataset sets, else the model's setting, else None.

    Raises:
        UserError: it is not positive.
    """
    for key, side in (("dataset.image_size", spec.image_size), ("model.image_size", image_size)):
        if side is not None:
            if side <= 0:
                raise UserError(f"{key}: {side}; must be positive")
            return side
    return None


def input_spec(
    spec: DataSpec,
    side: int,
    *,
    weights: str,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    interpolation: Interpolation = "bicubic",
    crop_fraction: float = 0.875,
    divisor: int = 1,
) -> InputSpec:
    """Return what the weights were trained to see, for an input of `side` pixels.

    Images of a dataset that stores them all at one size are framed already: no centre crop on top of that, nor where
    the network is to learn them from scratch.

    Raises:
        UserError: the side is not a multiple of `divisor`, the patch size.
    """
    if side % divisor:
        key = "model.image_size" if spec.image_size is None else "dataset.image_size"
        below = max(side // divisor, 1) * divisor
        raise UserError(
            f"{key}: {side} is not a multiple of the patch size {divisor}; nearest: {below}, {below + divisor}"
        )
    return InputSpec(
        size=side,
        mean=(mean[0], mean[1], mean[2]),
        std=(std[0], std[1], std[2]),
        interpolation=interpolation,
        crop_fraction=1.0 if weights == "none" or spec.native_size is not None else crop_fraction,
        divisor=divisor,
    )
