"""Which training images keep their labels: seeded, stratified, and nested, so that curves over labels are of one draw.

A draw depends on the labels, the seed and the amount alone; of one seed a larger amount contains every smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dinodiet.data.splits import limit, rank_in_class
from dinodiet.errors import UserError
from dinodiet.types import DataSpec

NAMED = 3  # classes, in a message


def nested_per_class(
    labels: Tensor,
    per_class: int,
    seed: int,
    classes: Sequence[str] | None = None,
    *,
    key: str = "labels_per_class",
) -> Tensor:
    """Return the sorted positions, int64 (C * per_class,), of exactly `per_class` images of each class in the labels.

    Args:
        labels: int64 (N,), one class an image.
        per_class: images of each class, at least 1.
        seed: of the draw.
        classes: the names of the classes, for messages.
        key: what to call `per_class` in a message.

    Raises:
        UserError: a class has fewer images, or images have several labels.
    """
    if labels.ndim != 1:
        raise UserError(f"{key}: {per_class}, but the images are multi-label; it needs one class an image")
    present, sizes = labels.unique(return_counts=True)
    if short := [place for place in range(len(sizes)) if sizes[place] < per_class]:
        names = [class_name(int(present[place]), classes) for place in short]
        found = ", ".join(f"{name} has {sizes[place]}" for name, place in zip(names, short[:NAMED], strict=False))
        more = f" and {len(short) - NAMED} more classes have too few" if len(short) > NAMED else ""
        raise UserError(
            f"{key}: {per_class}, but of the training images class {found}{more}; choose 1 to {sizes.min()}"
        )
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    rank, _ = rank_in_class(labels.numpy()[shuffled])
    return _sorted(shuffled[rank < per_class])


def fraction(labels: Tensor, share: float, seed: int, *, key: str = "label_fraction") -> Tensor:
    """Return the sorted positions of round(share * N) images, of each class its share to within one image.

    Classes take turns as Tijdeman (1980, "The chairman assignment problem") has them: after h turns a class of n_c of
    N images had less than one more or fewer than h * n_c / N. Small shares may leave a rare class without an image. Of
    multi-label sets, labels (N, L), the draw is plainly random.

    Raises:
        UserError: no image would be left, or the share is not between 0 and 1.
    """
    count = round(share * len(labels))
    if not 0 < share <= 1 or count == 0:
        raise UserError(f"{key}: {share:g} of {len(labels)} training images are {count}; choose above 0, up to 1")
    shuffled = np.random.RandomState(seed).permutation(len(labels))
    if labels.ndim != 1:
        return _sorted(shuffled[:count])
    _, place, sizes = np.unique(labels.numpy()[shuffled], return_inverse=True, return_counts=True)
    rank, _ = rank_in_class(place)
    return _sorted(shuffled[rank < _turns(sizes, count)[place]])


def proportional(
    labels: Tensor, count: int, seed: int, *, key: str = "label_fraction", told: str | None = None
) -> Tensor:
    """Return the sorted positions of exactly `count` images in proportion to the classes, one of each at least.

    Quotas are those of `splits.proportional_quotas`: (900, 60, 30, 10) images and a count of 10 give 7, 1, 1, 1. Of
    one seed a smaller count is a part of a larger one, but for a class that loses an image as the count grows, which
    largest remainders allow. Of multi-label sets, labels (N, L), the draw is plainly random, and nested.

    Args:
        labels: int64 (N,) or (N, L).
        count: of images.
        seed: of the draw.
        key: what to call the amount in a message.
        told: the amount as the user gave it; None: the count.

    Raises:
        UserError: there are fewer images than classes among the chosen, or than are asked for.
    """
    least = len(labels.unique()) if labels.ndim == 1 else 1
    if not least <= count <= len(labels):
        why = f"which are {count} of {len(labels)} training images"
        raise UserError(
            f"{key}: {told or count}, {why}; choose as much as gives {least} (the classes) to {len(labels)}"
        )
    return limit(labels, len(labels), count, seed, balanced="proportional" if labels.ndim == 1 else False)


def _turns(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return how many of `count` turns each class has, (C,)."""
    total, slack = int(sizes.sum()), 1 / max(2 * len(sizes) - 2, 1)
    if count == total:
        return sizes
    taken = np.zeros_like(sizes)
    for turn in range(1, count + 1):
        owed = turn * sizes / total - taken
        waits = np.where(owed >= slack - 1e-9, (1 - slack - owed) * total / sizes, np.inf)  # turns that it can wait
        taken[waits.argmin()] += 1
    return taken


def classes_without_images(labels: Tensor | None, spec: DataSpec) -> list[str]:
    """Return the names of the classes that no image of labels (N,) has; none of multi-label sets."""
    if labels is None or labels.ndim != 1:
        return []
    missing = sorted(set(range(spec.num_labels)) - set(labels.unique().tolist()))
    return [class_name(label, spec.classes) for label in missing]


def class_name(label: int, classes: Sequence[str] | None) -> str:
    """Return a class by its name, in quotes, or by its number where names are unknown."""
    return str(label) if classes is None else repr(classes[label])


def _sorted(positions: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.sort(positions).astype(np.int64))
