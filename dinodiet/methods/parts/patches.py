"""Images as patches: what a masked autoencoder hides, and predicts."""

from __future__ import annotations

import torch
from torch import Tensor

from dinodiet.processes.rows import draw_rows


def patches_of(images: Tensor, side: int) -> Tensor:
    """Return the patches (B, N, 3 * side * side) of images (B, 3, h, w), row by row."""
    rows, columns = images.shape[-2] // side, images.shape[-1] // side
    parts = images.reshape(len(images), 3, rows, side, columns, side)
    return parts.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def normalised(patches: Tensor) -> Tensor:
    """Return patches (..., P) with mean 0 and variance 1 each; a flat one is 0 (He et al. 2021, section 4.2).

    As published, the variance is the unbiased one, and 1e-6 is added to it.
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def drawn(number: int, patches: int, masked: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw which patches of `number` images are seen, and which `masked` ones are hidden.

    Returns int64 (number, patches - masked) and (number, masked), rising in each row.
    """

    def draw(rows: int) -> Tensor:
        return torch.rand(rows, patches, generator=generator)

    order = draw_rows(draw, number, generator).argsort(dim=1)
    return order[:, masked:].sort(dim=1).values, order[:, :masked].sort(dim=1).values
