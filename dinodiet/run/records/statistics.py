"""Statistics of features: rows (N, D), a row an image or a view of one. In the rows' precision, float32 at least."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SHARES = (0.95, 0.99, 0.999)
NAMES = (
    *("mean/mean", "mean/sd", "sd/mean", "sd/sd", "rank", *(f"components/{share}" for share in SHARES)),
    *("correlation/mean", "correlation/rank", "distance"),
)


def statistics(rows: Tensor) -> dict[str, float]:
    """Return what features (N, D) are like; NaN where one is not finite, or where there are too few.

    `mean/mean`, `mean/sd`, `sd/mean`, `sd/sd`: mean and deviation over the columns of each column's mean and deviation,
    with N - 1 and D - 1. `rank`: of the matrix. `components/<p>`: how many components of the centred matrix have
    together at most the share p of the sum of its singular values (not their squares). `correlation/mean`: mean
    correlation of two different rows; a row without variance counts as 0. `correlation/rank`: rank of their matrix.
    `distance`: mean Euclidean distance of two rows.
    """
    rows = wide(rows)
    if len(rows) < 2 or not rows.isfinite().all():
        return dict.fromkeys(NAMES, math.nan)
    means, deviations = rows.mean(0), rows.std(0)
    correlations = row_correlations(rows)
    values = [
        *(means.mean(), means.std(), deviations.mean(), deviations.std()),
        *(rank(rows), *components(rows)),
        correlations[torch.ones_like(correlations, dtype=torch.bool).triu(1)].mean(),
        torch.linalg.matrix_rank(correlations, hermitian=True),
        F.pdist(rows).mean(),
    ]
    return dict(zip(NAMES, torch.stack([value.double() for value in values]).tolist(), strict=True))


def wide(rows: Tensor) -> Tensor:
    """Return features in float32, or in float64 where they are."""
    return rows.to(torch.promote_types(rows.dtype, torch.float32))


def rank(matrix: Tensor) -> Tensor:
    """Return the rank: how many singular values are above max(N, D) x epsilon x the largest."""
    values = singular_values(matrix)
    return (values > values[0] * max(matrix.shape) * torch.finfo(matrix.dtype).eps).sum()


def components(rows: Tensor) -> list[Tensor]:
    """Return, for each of `SHARES`, how many components have together at most this share of the singular values."""
    values = singular_values(rows - rows.mean(0))
    shares = values.cumsum(0) / values.sum()
    return [(shares <= share).sum().to(rows.dtype) for share in SHARES]


def row_correlations(rows: Tensor) -> Tensor:
    """Return the correlations (N, N) of rows over their columns; those of a row without variance are 0."""
    centred = rows - rows.mean(1, keepdim=True)
    lengths = centred.norm(dim=1, keepdim=True)
    small = torch.finfo(rows.dtype).eps * rows.abs().amax(1, keepdim=True) * math.sqrt(rows.shape[1])
    unit = torch.where(lengths > small, centred / lengths.clamp_min(torch.finfo(rows.dtype).tiny), 0.0)
    return unit @ unit.T


def singular_values(matrix: Tensor) -> Tensor:
    """Return the singular values, the largest first; of a long or wide matrix by way of its triangular factor."""
    tall = matrix if len(matrix) >= matrix.shape[1] else matrix.T
    if len(tall) > 2 * tall.shape[1]:
        tall = torch.linalg.qr(tall, mode="r").R
    values: Tensor = torch.linalg.svdvals(tall)
    return values


def between(teacher: Tensor, student: Tensor) -> dict[str, float]:
    """Return how features of the teacher (N, D) and of the student lie to each other: means over the rows.

    `l2`: Euclidean distance; `rms`: the same over sqrt(D); `cosine` of the two as they are, not centred; `angle` in
    radians.
    """
    first, second = wide(teacher), wide(student)
    distances = (first - second).norm(dim=1)
    cosines = F.cosine_similarity(first, second, dim=1)
    rms = distances / math.sqrt(first.shape[1])
    angles = cosines.clamp(-1, 1).arccos()
    means = torch.stack([values.mean().double() for values in (distances, rms, cosines, angles)])
    return dict(zip(("l2", "rms", "cosine", "angle"), means.tolist(), strict=True))
