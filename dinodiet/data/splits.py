"""Seeded selections of positions: hold out a part of a split, or take a subset of it.

Both draw from numpy's RandomState, the one generator whose stream is frozen across versions and platforms (NEP 19).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dinodiet.errors import UserError


def stratified_split(labels: Tensor, part: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """Split N positions into (rest, part), both sorted: disjoint, together all.

    Args:
        labels: int64 (N,) classes; of (N, L) multi-label sets the split is plainly random.
        part: the number of images of the part, or their fraction (rounded, at least 1).
        seed: two splits with the same labels, part and seed are equal.

    The part holds every class in proportion (Webster's apportionment), and at least one image of each where the part
    is large enough. The rest keeps at least one image of each class, so the one image of a class stays there.

    Raises:
        UserError: the part would be empty, or the rest.
    """
    total = len(labels)
    count = max(1, round(part * total)) if isinstance(part, float) else part
    if not 0 < count < total:
        raise UserError(f"cannot split off {count} of {total} images: both parts need at least one")
    shuffled = np.random.RandomState(seed).permutation(total)
    if labels.ndim == 1:
        rank, size = rank_in_class(labels.numpy()[shuffled])
        seat = np.where(rank == 0, 0.0, (rank + 0.5) / size)
        seat[rank == size - 1] = np.inf
        shuffled = shuffled[np.argsort(seat, kind="stable")]
    return _sorted(shuffled[count:]), _sorted(shuffled[:count])


def grouped_split(labels: Tensor, groups: Tensor | None, part: int | float, seed: int) -> tuple[Tensor, Tensor]:
    """Split positions as `stratified_split` does, but images of one group, int64 (N,), go to the same part.

    `part` then counts groups, or is their fraction, and a group has the labels of its first image.
    """
    if groups is None:
        return stratified_split(labels, part, seed)
    _, first, group = np.unique(groups.numpy(), return_index=True, return_inverse=True)
    _, chosen = stratified_split(labels[torch.from_numpy(first)], part, seed)
    there = torch.isin(torch.from_numpy(group), chosen)
    return (~there).nonzero().squeeze(1), there.nonzero().squeeze(1)


def limit(
    labels: Tensor | None, total: int, count: int, seed: int, balanced: bool | Literal["proportional"] = False
) -> Tensor:
    """Return `count` of `total` positions, sorted; a smaller count of the same seed is a subset of a larger one.

    `balanced` takes equally many of each class of `labels` (N,); a class that is used up leaves its share to others.
    `proportional` takes of each class what `proportional_quotas` says; smaller counts are then subsets only as far as
    no class has a smaller quota of the larger count.

    Raises:
        UserError: more images are asked for than there are, classes are to be balanced that are not there, or
            `proportional` has fewer images than classes.
    """
    if not 0 < count <= total:
        raise UserError(f"limit: {count}; {total} images are available, choose 1 to {total}, or null for all")
    generator = np.random.RandomState(seed)
    shuffled = generator.permutation(total)
    if balanced:
        classes = _one_class_an_image(labels, balanced)[shuffled]
        rank, _ = rank_in_class(classes)
        if balanced == "proportional":
            _, place, sizes = np.unique(classes, return_inverse=True, return_counts=True)
            return _sorted(shuffled[rank < proportional_quotas(sizes, count, generator)[place]])
        shuffled = shuffled[np.argsort(rank, kind="stable")]
    return _sorted(shuffled[:count])


def _one_class_an_image(labels: Tensor | None, balanced: bool | str) -> NDArray[np.int64]:
    if labels is None or labels.ndim != 1:
        kind = "unlabelled" if labels is None else "multi-label"
        told = "true" if balanced is True else balanced
        raise UserError(f"balanced: {told}, but the images are {kind}; it needs one class an image, set false")
    return labels.numpy()


def proportional_quotas(sizes: NDArray[np.int64], count: int, generator: np.random.RandomState) -> NDArray[np.int64]:
    """Return how many images of each class to take, (C,): `count` in all, in proportion, at least one of each.

    A class of n_c of N images has the ideal count * n_c / N. Quotas begin at its whole part, and at 1 at least. While
    the sum is too small, the class with the largest ideal - quota gets one more; while it is too large, the class with
    the largest quota - ideal that has more than one gets one less. Among equals a permutation of `generator` decides.

    Raises:
        UserError: fewer images are asked for than there are classes.
    """
    if count < len(sizes):
        raise UserError(
            f"limit: {count}, but balanced=proportional takes at least one image of each of {len(sizes)} classes; "
            f"choose {len(sizes)} to {sizes.sum()}"
        )
    # Compared as whole numbers: N * (ideal - quota) is exact.
    order, total = generator.permutation(len(sizes)), int(sizes.sum())
    ideal = count * sizes[order]
    quotas = np.minimum(sizes[order], np.maximum(1, ideal // total))
    while quotas.sum() < count:
        quotas[np.where(quotas < sizes[order], ideal - total * quotas, -np.inf).argmax()] += 1
    while quotas.sum() > count:
        quotas[np.where(quotas > 1, total * quotas - ideal, -np.inf).argmax()] -= 1
    result: NDArray[np.int64] = np.empty_like(quotas)
    result[order] = quotas
    return result


def rank_in_class(classes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each element how many of its class come before it, and how many there are, both (N,)."""
    _, inverse, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    order = np.argsort(inverse, kind="stable")
    rank = np.empty(len(classes), dtype=np.int64)
    rank[order] = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank, sizes[inverse]


def _sorted(positions: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.sort(positions).astype(np.int64))
