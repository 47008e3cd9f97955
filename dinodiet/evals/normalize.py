"""What is done to features before they are compared or classified: nothing, unit length, or standardisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Normalize = Literal["l2", "standardize", "none"]
CONSTANT = 10 * torch.finfo(torch.float32).eps  # a standard deviation below this counts as 1


def normalizer(normalize: Normalize, train: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what features (N, D) become: `train` (M, D) alone says how they are standardised.

    `standardize` subtracts the mean of each dimension and divides by its standard deviation (M - 1 in the denominator;
    1 where it is below ten machine epsilons of float32, and of one image), both in float64. `l2` divides each image by
    its length.
    """
    if normalize == "l2":
        return lambda features: F.normalize(features, dim=1)
    if normalize == "standardize":
        mean, deviation = moments(train)
        return lambda features: (features - mean) / deviation
    return lambda features: features


def moments(train: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of each dimension (D,), in the precision of `train`."""
    wide = train.double()
    mean, variance = wide.mean(dim=0), wide.var(dim=0, correction=min(1, len(wide) - 1))
    deviation = variance.sqrt()
    return mean.to(train.dtype), deviation.where(deviation >= CONSTANT, 1.0).to(train.dtype)
