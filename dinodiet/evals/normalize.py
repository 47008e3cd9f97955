"""What is done to features before they are compared or classified: nothing, unit length, or standardisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Normalize = Literal["l2", "standardize", "none"]
CONSTANT = 1e-6  # of the largest standard deviation: one that is not above this counts as 1


def normalizer(normalize: Normalize, train: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what features (N, D) become: `train` (M, D) alone says how they are standardised.

    `standardize` subtracts the mean of each dimension and divides by its standard deviation, with M in the denominator
    as scikit-learn has it: M - 1 would change no order of neighbours, and of a linear probe the unit of C alone. A
    dimension that hardly varies is only centred. `l2` divides each image by its length.
    """
    if normalize == "l2":
        return lambda features: F.normalize(features, dim=1)
    if normalize == "standardize":
        mean, deviation = moments(train)
        return lambda features: (features - mean) / deviation
    return lambda features: features


def moments(train: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of each dimension (D,)."""
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0)
    return mean, deviation.where(deviation > CONSTANT * deviation.max(), 1.0)
