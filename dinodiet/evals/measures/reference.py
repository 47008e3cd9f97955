"""How far embeddings lie from those of reference images. All rows have length 1 and are float64."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dinodiet.evals.measures.sphere import CHUNK, squared_distances, upper_distances

DRAWN = 256  # pairs whose distances are computed at once: what a core keeps near
TIE = 1e-12  # cosines that differ by less are equal: it is rounding, which depends on a row's place


def mmd2(first: Tensor, second: Tensor, gamma: float) -> float:
    """Return the squared maximum mean discrepancy of two sets of rows under exp(-gamma d^2).

    Gretton et al. 2012 (JMLR 13), the biased estimate: pairs of a row with itself are among them. 0: alike.
    """
    across = sum(float(torch.exp(-gamma * squared_distances(part, second)).sum()) for part in first.split(CHUNK))
    return _within(first, gamma) + _within(second, gamma) - 2 * across / (len(first) * len(second))


def _within(rows: Tensor, gamma: float) -> float:
    """Return the mean kernel of all pairs of a set, also of a row with itself."""
    distinct = sum(float(torch.exp(-gamma * part).triu_(1).sum()) for part in upper_distances(rows))
    return (len(rows) + 2 * distinct) / len(rows) ** 2


def median_squared_distance(rows: Tensor, most: int, seed: int) -> tuple[float, int]:
    """Return the median squared distance of distinct pairs of rows, and of how many pairs.

    Of all pairs where they are at most `most`, else of so many that are drawn by the seed.
    """
    count = len(rows) * (len(rows) - 1) // 2
    found = _all(rows, count) if count <= most else _drawn(rows, most, seed)
    return float(np.median(found.numpy(force=True), overwrite_input=True)), len(found)


def _all(rows: Tensor, count: int) -> Tensor:
    found, filled = rows.new_empty(count), 0
    for part in upper_distances(rows):
        values = part[torch.ones_like(part, dtype=torch.bool).triu_(1)]
        found[filled : filled + len(values)] = values
        filled += len(values)
    return found


def _drawn(rows: Tensor, number: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(len(rows), (number,), generator=generator)
    second = (first + torch.randint(1, len(rows), (number,), generator=generator)) % len(rows)
    pairs = zip(first.to(rows.device).split(DRAWN), second.to(rows.device).split(DRAWN), strict=True)
    return torch.cat([(rows[a] - rows[b]).square_().sum(dim=1) for a, b in pairs])


def overlap(targets: Tensor, references: Tensor, k: int) -> float:
    """Return the mean share of references among the k rows of targets and references that are nearest to a target.

    Nearest by cosine; its own row is none. Where several are equally far and not all of them are among the k, each
    counts in part: the order of rows decides nothing.
    """
    pool = torch.cat([targets, references])
    found = 0.0
    for start in range(0, len(targets), CHUNK):
        cosine = targets[start : start + CHUNK] @ pool.T
        cosine.diagonal(start).fill_(-math.inf)
        found += float(_references_among(cosine, len(targets), k).sum())
    return found / (len(targets) * k)


def _references_among(cosine: Tensor, first: int, k: int) -> Tensor:
    """Return how many of the k largest of each row (R, N) lie in the columns from `first` on."""
    least = cosine.topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True)
    closer, tied = cosine > least + TIE, (cosine - least).abs() <= TIE
    rest = (k - closer.sum(dim=1)) / tied.sum(dim=1)
    return closer[:, first:].sum(dim=1) + rest * tied[:, first:].sum(dim=1)


def chance(targets: int, references: int) -> float:
    """Return the overlap of two sets whose rows cannot be told apart."""
    return references / (targets + references - 1)
