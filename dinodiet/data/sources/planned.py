"""Sets of which only counts or labels are known: for planning, not for training. Their images take no memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import TensorImages
from dinodiet.errors import NotOnDisk
from dinodiet.types import Images, Statistics


def counted(
    name: str,
    published: Mapping[str, int] | None,
    *,
    side: int | None = None,
    test_fraction: float = 0.2,
    multilabel: bool = False,
) -> RawSplits:
    """Return a set of the counts that were published of it; labels are made up, every class in turn.

    Args:
        name: of the set.
        published: see `check_published`; the sizes of the splits, or of `all` of them.
        side: of all images; None: they are files whose sizes are not known.
        test_fraction: the part of the images that is held out, where only the size of all is published.
        multilabel: whether an image has several labels.

    Raises:
        NotOnDisk: the counts are not published.
    """
    sizes, classes = dict(published or {}), (published or {}).get("classes")
    if "all" in sizes:
        held_out = round(sizes["all"] * test_fraction)
        sizes |= {"train": sizes["all"] - held_out, "test": held_out}
    if classes is None or "train" not in sizes or "test" not in sizes:
        raise NotOnDisk(f"{name}: how many images it has is not known")
    labels = {
        split: _in_turn(sizes[split], classes, multilabel) for split in ("train", "val", "test") if split in sizes
    }
    return with_labels(name, labels, classes, side, multilabel)


def with_labels(
    name: str, labels: Mapping[str, Tensor], num_labels: int, side: int | None, multilabel: bool = False
) -> RawSplits:
    """Return a set with these labels by split (`train`, `test` and optional `val`), of square images of one side."""
    splits = {split: _without_pixels(found, side) for split, found in labels.items()}
    val, none = splits.get("val"), Statistics((0.5,) * 3, (0.5,) * 3, "there are no pixels")
    return RawSplits(name, splits["train"], splits["test"], num_labels, val=val, multilabel=multilabel, statistics=none)


def unknown(count: int) -> RawSplits:
    """Return a set of which nothing is known: `count` training images of 224 pixels, two classes."""
    labels = _in_turn(count, 2)
    return with_labels("unknown", {"train": labels, "val": labels, "test": labels}, 2, 224)


def _in_turn(count: int, num_labels: int, multilabel: bool = False) -> Tensor:
    labels = torch.arange(count) % num_labels
    return torch.nn.functional.one_hot(labels, num_labels) if multilabel else labels


def _without_pixels(labels: Tensor, side: int | None) -> Images:
    if side is None:
        return _Files(labels)
    return TensorImages(torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(len(labels), 1, side, side), labels)


class _Files:
    """Labelled images of unknown and different sizes, which are not there."""

    def __init__(self, labels: Tensor) -> None:
        self.labels: Tensor | None = labels
        self._length = len(labels)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Tensor:
        raise NotImplementedError

    def fingerprint(self) -> str:
        raise NotImplementedError
