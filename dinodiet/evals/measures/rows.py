"""Which images are measured, and their embeddings in the form that measures take."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.errors import NotApplicable


def chosen(count: int, most: int, seed: int) -> Tensor:
    """Return int64 (min(count, most),): positions of images, rising, drawn uniformly without their labels.

    They depend on the numbers and the seed alone: before and after a training the same images are measured.
    """
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:most]
    return drawn.sort().values


def evenly(count: int, most: int) -> Tensor:
    """Return int64 (min(count, most),): positions of images, evenly spaced from the first on."""
    number = min(count, most)
    return torch.arange(number) * count // max(number, 1)


def measurable(features: Tensor, device: torch.device) -> Tensor:
    """Return embeddings (N, D) as float64 on a device.

    Raises:
        NotApplicable: one is zero or not finite, and so has no direction; or there are fewer than two.
    """
    rows = features.to(device, torch.float64)
    if len(rows) < 2:
        raise NotApplicable(f"needs 2 embeddings or more; there are {len(rows)}")
    norms = rows.norm(dim=1)
    if bad := int((~norms.isfinite() | (norms == 0)).sum()):
        raise NotApplicable(f"{bad:,} of {len(rows):,} embeddings are zero or not finite")
    return rows


def on_sphere(rows: Tensor) -> Tensor:
    """Return rows of length 1."""
    return F.normalize(rows, dim=1, eps=0.0)
