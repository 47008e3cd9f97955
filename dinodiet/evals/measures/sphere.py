"""How embeddings spread over directions, and how their lengths vary."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK = 512  # rows against all others at once: with 10,000 of them 40 MiB in float64


def uniformity(sphere: Tensor, t: float = 2.0) -> float:
    """Return log of the mean of exp(-t d^2) over distinct pairs of rows (N, D) of length 1.

    Wang and Isola 2020 (arXiv:2005.10242), section 4.1. From -4 t (only opposite pairs) to 0 (all alike); lower is more
    spread. Embeddings that are uniform on the sphere come to about -2 t + 2 t^2 / D.
    """
    pairs = len(sphere) * (len(sphere) - 1) / 2
    total = sum(float(torch.exp(-t * part).triu_(1).sum()) for part in upper_distances(sphere))
    return math.log(total / pairs)


def upper_distances(sphere: Tensor) -> Iterator[Tensor]:
    """Yield squared distances of `CHUNK` rows to themselves and all after them, (C, N - first row)."""
    for start in range(0, len(sphere), CHUNK):
        yield squared_distances(sphere[start : start + CHUNK], sphere[start:])


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared distances (A, B) of rows of length 1, which are from 0 to 4."""
    return torch.addmm(first.new_full((1, 1), 2.0), first, second.T, alpha=-2.0).clamp_(0.0, 4.0)


def mean_cosine(sphere: Tensor) -> float:
    """Return the mean cosine of distinct pairs of rows (N, D) of length 1: from -1 / (N - 1) to 1."""
    count = len(sphere)
    return float((sphere.sum(dim=0).square().sum() - count) / (count * (count - 1)))


def norm_variation(rows: Tensor) -> float:
    """Return the deviation of the lengths of rows (N, D) over their mean; 0: all lie on one sphere."""
    norms = rows.norm(dim=1)
    return float(norms.std(correction=0) / norms.mean())
