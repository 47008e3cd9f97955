"""The part of train that chooses settings where there is no validation split."""

from __future__ import annotations

import torch
from torch import Tensor

HELD_OUT = 5  # one image in five


def fifth(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return the positions of four fifths to fit, and of one to choose settings on; labels as in `Embeddings`.

    Every fifth image in an order by class, random within: stratified. Several labels to an image: in a random order.
    """
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    if labels.ndim == 1:
        order = order[labels[order].argsort(stable=True)]
    held_out = torch.arange(len(labels)) % HELD_OUT == HELD_OUT // 2
    return order[~held_out], order[held_out]
