"""Intervals that hold a score in 95 of 100 samples of test images: Wilson's, and percentiles of a seeded bootstrap.

The bootstrap draws as many images as there are, with replacement, and weighs each image by how often it was drawn. The
AUROC of a draw is that of its terms of first order, the placements of DeLong et al. 1988 (Biometrics 44, 837): all
draws are one matrix product then, instead of a sorted sum for each draw and label.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from torch import Tensor

Interval = tuple[float, float]
Draws = Callable[[Tensor], Tensor]

Z = 1.959963984540054  # the normal distribution's 97.5 %
RESAMPLES, FEWEST = 1000, 100
MOST_PRODUCTS = 2**34  # images x labels x draws: fewer draws above, some seconds on two cores
AT_ONCE = 2**22  # weights of images, 32 MiB


def wilson(successes: float, trials: int) -> Interval | None:
    """Return Wilson's 95 % interval of a share (Wilson 1927, JASA 22, 209), such as the accuracy; None of nothing."""
    if trials == 0 or math.isnan(successes):
        return None
    share, extra = successes / trials, Z**2 / trials
    centre = (share + extra / 2) / (1 + extra)
    half = Z * math.sqrt(share * (1 - share) / trials + extra / (4 * trials)) / (1 + extra)
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(scores: Tensor, labels: Tensor, *, seed: int = 0) -> dict[str, Interval]:
    """Return 95 % intervals of `f1` and `recall`, where labels are classes, and of `auroc`; arguments as `metrics`.

    1,000 draws, and down to 100 where images times labels are over 17 millions. What no draw defines has no interval.
    """
    num_images, num_labels = scores.shape
    if num_images == 0 or not scores.isfinite().all():
        return {}
    draws = min(RESAMPLES, max(FEWEST, MOST_PRODUCTS // (num_images * num_labels)))
    wanted: dict[str, Draws] = {"auroc": _auroc_of(scores, labels)}
    if labels.ndim == 1:
        wanted |= _decisions_of(scores.argmax(dim=1).cpu(), labels.cpu(), num_labels)
    few = num_images * draws <= AT_ONCE
    weights = _kept_weights(num_images, draws, seed) if few else _weights(num_images, draws, seed)
    parts = [{name: of(part) for name, of in wanted.items()} for part in weights]
    found = {name: torch.cat([part[name] for part in parts]) for name in wanted}
    return {name: _percentiles(values) for name, values in found.items() if not values.isnan().all()}


def _weights(num_images: int, draws: int, seed: int) -> Iterator[Tensor]:
    """Yield how often each image was drawn, float64 (draws, num_images) in parts."""
    generator = torch.Generator().manual_seed(seed)
    for part in torch.arange(draws).split(max(1, AT_ONCE // num_images)):
        drawn = torch.randint(num_images, (len(part), num_images), generator=generator)
        places = drawn + num_images * torch.arange(len(part))[:, None]
        counts = torch.bincount(places.flatten(), minlength=len(part) * num_images)
        yield counts.view(len(part), num_images).double()


@lru_cache(maxsize=2)  # test's and val's
def _kept_weights(num_images: int, draws: int, seed: int) -> list[Tensor]:
    """Return what `_weights` yields: every evaluator and budget of labels asks for the same."""
    return list(_weights(num_images, draws, seed))


def _decisions_of(predicted: Tensor, labels: Tensor, num_labels: int) -> dict[str, Draws]:
    """Return macro F1 and macro recall as functions of weights (B, N), over the classes that a draw holds."""
    hits = predicted.eq(labels).double()

    def f1(weights: Tensor) -> Tensor:
        both = _per_class(weights, labels, num_labels) + _per_class(weights, predicted, num_labels)
        return (2 * _per_class(weights * hits, labels, num_labels) / both).nanmean(dim=1)

    def recall(weights: Tensor) -> Tensor:
        found, there = (_per_class(part, labels, num_labels) for part in (weights * hits, weights))
        return (found / there).nanmean(dim=1)

    return {"f1": f1, "recall": recall}


def _per_class(values: Tensor, classes: Tensor, num_labels: int) -> Tensor:
    return values.new_zeros(len(values), num_labels).index_add_(1, classes, values)


def _auroc_of(scores: Tensor, labels: Tensor) -> Draws:
    """Return macro AUROC as a function of weights (B, N), over the labels of which a draw holds both values."""
    if labels.ndim == 1 and scores.shape[1] == 2:
        scores, labels = scores[:, 1:], labels[:, None]
    labels = labels.cpu()
    placed, everyone = placements(scores, labels), torch.ones(1, 1, dtype=torch.float64).expand(scores.shape)

    def sums(weights: Tensor, values: Tensor) -> Tensor:
        if labels.ndim == 2:
            return weights @ (values * labels)
        return _per_class(weights * values.gather(1, labels[:, None])[:, 0], labels, scores.shape[1])

    once = torch.ones(1, len(scores), dtype=torch.float64)
    areas = sums(once, placed) / sums(once, everyone)

    def auroc(weights: Tensor) -> Tensor:
        above, positives, total = sums(weights, placed), sums(weights, everyone), weights.sum(dim=1, keepdim=True)
        below = weights @ placed - above
        return (above / positives + below / (total - positives) - areas).nanmean(dim=1)

    return auroc


def placements(scores: Tensor, labels: Tensor) -> Tensor:
    """Return for each image and label (N, K) which share of the other side it lies on the right side of; ties half.

    Of a positive: of the negatives, those below; of a negative: of the positives, those above. The mean over either
    side is the AUROC. NaN for a label without positives or without negatives.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - only who scores pays for it

    placed = torch.full(scores.shape, math.nan, dtype=torch.float64)
    for column, values in enumerate(scores.double().cpu().T):
        positive = labels[:, column] == 1 if labels.ndim == 2 else labels == column
        if not 0 < int(positive.sum()) < len(positive):
            continue
        others_below = torch.from_numpy(rankdata(values))
        for side in (positive, ~positive):
            others_below[side] -= torch.from_numpy(rankdata(values[side]))
            others_below[side] /= len(side) - int(side.sum())
        placed[:, column] = torch.where(positive, others_below, 1 - others_below)
    return placed


def _percentiles(values: Tensor) -> Interval:
    low, high = values.nanquantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).clamp(0.0, 1.0).tolist()
    return low, high
