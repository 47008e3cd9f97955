"""Votes of neighbours for their labels: how much each counts, and their sums."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Metric = Literal["cosine", "euclidean"]
Votes = Literal["similarity", "inverse_distance", "uniform"]

ROWS = 2**8  # test images whose distances are computed at once


def vote_weights(similarity: Tensor, temperature: float) -> Tensor:
    """Return exp(similarity / temperature) in float64."""
    return (similarity.double() / temperature).exp()


def inverse_distances(distance: Tensor, offset: float = 0.0) -> Tensor:
    """Return 1 / (distance + offset) of distances (N, k).

    Without an offset neighbours at distance 0 have one vote each and silence all others of their row, as by
    scikit-learn's `weights="distance"`.
    """
    weights = 1.0 / (distance + offset)
    silencing = weights.isinf().any(dim=1, keepdim=True)
    return torch.where(silencing, weights.isinf().to(weights.dtype), weights)


def by_distance(train: Tensor, test: Tensor, neighbours: Tensor, metric: Metric) -> tuple[Tensor, Tensor]:
    """Return the distances of test images to their neighbours, float64 (N, k), nearest first, and the neighbours so.

    The distance is 1 - cosine, or Euclidean. Of equal features it is exactly 0, which products of float32 do not give.
    """
    parts = [
        _distances(train[at], rows, metric) for at, rows in zip(neighbours.split(ROWS), test.split(ROWS), strict=True)
    ]
    distance, order = torch.cat(parts).sort(dim=1, stable=True)
    return distance, neighbours.gather(1, order)


def _distances(near: Tensor, rows: Tensor, metric: Metric) -> Tensor:
    """Return the distances (B, k) of rows (B, D) to theirs (B, k, D)."""
    near, rows = near.double(), rows.double()[:, None]
    if metric == "euclidean":
        return (near - rows).square().sum(dim=2).sqrt()
    return (F.normalize(near, dim=2) - F.normalize(rows, dim=2)).square().sum(dim=2) / 2


def sum_votes(weights: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """Return the summed votes (N, num_labels) of k neighbours with weights (N, k).

    Their labels are classes (N, k), or 0 and 1 (N, k, num_labels).
    """
    if labels.ndim == 3:
        return torch.einsum("nk,nkl->nl", weights, labels.to(weights.dtype))
    return weights.new_zeros(len(weights), num_labels).scatter_add_(1, labels, weights)
