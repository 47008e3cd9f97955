"""k-means by Lloyd's algorithm from k-means++ starts, all restarts at once.

Greedy k-means++ (Arthur and Vassilvitskii 2007), and iterations that end where scikit-learn's do. What makes it fast is
that restarts share their matrix products: ten times ten centres are one product with a hundred columns, for which the
images are read once; and sums over clusters are corrected by the images that changed theirs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

MAX_ITER, TOLERANCE = 300, 1e-4  # scikit-learn's: centres that move less than this share of the variance are final
CENTRES_AT_ONCE = 2**11
DISTANCES_AT_ONCE = 2**22  # 16 MiB in float32


def kmeans(features: Tensor, num_clusters: int, n_init: int, generator: torch.Generator) -> tuple[Tensor, float]:
    """Return the cluster (N,) of each image in the tightest of `n_init` clusterings, and its inertia.

    `features` are float32 (N, D), no fewer than clusters. The CPU generator decides all draws, on every device. Beside
    the features, it needs memory for N numbers a restart, and k-means++ for each of its candidates.
    """
    features = features - features.mean(dim=0)  # distances of points far from the origin lose their digits
    best = features.new_zeros(len(features), dtype=torch.int64), math.inf
    at_once = max(1, CENTRES_AT_ONCE // num_clusters)
    for first in range(0, n_init, at_once):
        centres = plus_plus(features, num_clusters, min(at_once, n_init - first), generator)
        labels, inertia = lloyd(features, centres)
        tightest = int(inertia.argmin())
        if float(inertia[tightest]) < best[1]:
            best = labels[:, tightest], float(inertia[tightest])
    return best


def plus_plus(features: Tensor, num_clusters: int, restarts: int, generator: torch.Generator) -> Tensor:
    """Return (restarts, K, D) centres: images, each drawn by its squared distance from the nearest centre before it.

    Of 2 + log(K) draws the one counts that leaves the smallest sum of squared distances.
    """
    trials = 2 + int(math.log(num_clusters))
    squares = features.square().sum(dim=1)
    chosen = torch.randint(len(features), (restarts, 1), generator=generator).to(features.device)
    closest = _distances(features, squares, chosen)[:, 0]
    centres = [chosen]
    for _ in range(num_clusters - 1):
        drawn = torch.rand(restarts, trials, generator=generator, dtype=torch.float64).to(features.device)
        cumulated = closest.double().cumsum(dim=1)
        candidates = torch.searchsorted(cumulated, drawn * cumulated[:, -1:]).clamp(max=len(features) - 1)
        distances = _distances(features, squares, candidates)
        torch.minimum(distances, closest[:, None], out=distances)
        best = distances.sum(dim=2, dtype=torch.float64).argmin(dim=1, keepdim=True)
        closest = distances.gather(1, best[:, :, None].expand(-1, -1, len(features)))[:, 0]
        centres.append(candidates.gather(1, best))
    return features[torch.cat(centres, dim=1)]


def _distances(features: Tensor, squares: Tensor, chosen: Tensor) -> Tensor:
    """Return the squared distances (R, T, N) of all images from the chosen ones (R, T)."""
    flat = chosen.flatten()
    found = torch.addmm(squares, features[flat], features.T, alpha=-2)
    return found.add_(squares[flat, None]).clamp_(min=0).view(*chosen.shape, -1)


def lloyd(features: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Return the clusters (N, R) and inertias (R,) that Lloyd's iterations from centres (R, K, D) end with."""
    tolerance = TOLERANCE * float(features.var(dim=0, correction=0).mean())
    state, running = _Restarts(features, centres), torch.arange(len(centres), device=features.device)
    for _ in range(MAX_ITER):
        moving = state.iterate(running) > tolerance
        running = running[moving]
        if not len(running):
            break
    return state.finish()


class _Restarts:
    """Centres (R, K, D), clusters (N, R), and their sums and counts, of all restarts."""

    def __init__(self, features: Tensor, centres: Tensor) -> None:
        self._features, self._centres = features, centres.clone()
        self._labels = torch.full((len(features), len(centres)), -1, device=features.device)
        self._scores = features.new_empty(len(features), len(centres))
        self._sums = torch.zeros_like(centres, dtype=torch.float64)
        self._counts = torch.zeros(centres.shape[:2], dtype=torch.float64, device=features.device)

    def iterate(self, running: Tensor) -> Tensor:
        """Assign images to centres and move these to the means; return the sum of squares of the moves."""
        self._assign(running)
        for restart in running[(self._counts[running] == 0).any(dim=1)]:
            self._fill_empty(int(restart))
        counts = self._counts[running, :, None]
        means = (self._sums[running] / counts).where(counts > 0, self._centres[running].double())
        moves = (means - self._centres[running]).square().sum(dim=(1, 2))
        self._centres[running] = means.float()
        return moves

    def finish(self) -> tuple[Tensor, Tensor]:
        """Return the clusters of the final centres, and their inertias."""
        self._assign(torch.arange(len(self._centres), device=self._features.device))
        return self._labels, self._distances().sum(dim=0)

    def _assign(self, running: Tensor) -> None:
        """Give each image its nearest centre, and correct sums and counts by what changed."""
        centres = self._centres[running]
        num_clusters, flat = centres.shape[1], centres.flatten(0, 1)
        halves = -flat.square().sum(dim=1) / 2
        rows = max(1, DISTANCES_AT_ONCE // len(flat))
        for start in range(0, len(self._features), rows):
            part = slice(start, start + rows)
            products = torch.addmm(halves, self._features[part], flat.T)  # the nearest centre has the largest
            scores, labels = products.view(-1, len(running), num_clusters).max(dim=2)
            before = self._labels[part][:, running]
            self._scores[part, running], self._labels[part, running] = scores, labels
            self._move(self._features[part], running, before, labels)

    def _move(self, features: Tensor, running: Tensor, before: Tensor, after: Tensor) -> None:
        """Correct sums and counts for images (n, D) whose clusters were `before` and are `after` (n, R); -1 is none."""
        rows = (before != after).any(dim=1).nonzero()[:, 0]
        signs = self._sums.new_zeros(len(rows), len(running), 1 + self._sums.shape[1], dtype=torch.float32)
        signs.scatter_(2, after[rows, :, None] + 1, 1.0)
        signs.scatter_add_(2, before[rows, :, None] + 1, signs.new_full((len(rows), len(running), 1), -1.0))
        signs = signs[:, :, 1:]
        self._counts[running] += signs.sum(dim=0)
        self._sums[running] += (signs.flatten(1).T @ features[rows]).view_as(self._sums[running])

    def _fill_empty(self, restart: int) -> None:
        """Put the images that are farthest from their centres into clusters that have none."""
        empty = (self._counts[restart] == 0).nonzero()[:, 0]
        far = self._distances()[:, restart].topk(len(empty)).indices
        one = torch.tensor([restart], device=far.device)
        self._move(self._features[far], one, self._labels[far][:, one], empty[:, None])
        self._labels[far, restart] = empty

    def _distances(self) -> Tensor:
        """Return the squared distances (N, R) from the centres that the images were assigned to."""
        squares = self._features.square().sum(dim=1, keepdim=True)
        return (squares.double() - 2 * self._scores.double()).clamp(min=0)
