"""A record of the splits that were held out and not published, so that anyone can use the same ones."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dinodiet.data.cache.decoded import DecodedImages
from dinodiet.data.images import FileImages, Subset
from dinodiet.types import Data


def held_out_splits(data: Data) -> dict[str, Any]:
    """Return what `splits.json` says of val and test where they were held out; nothing of official splits.

    `positions` count from 0 in the images of `from` as they were published (of a folder: its files in alphabetical
    order); `files` are their paths there. `stratified_split(labels, part, seed)` draws the same ones: test from all of
    them, then val from those that are left; or what `drawn_by` says.
    """
    record = {
        split: _record(images, data.spec.num_labels)
        for split in ("val", "test")
        if is_held_out(images := getattr(data, split))
    }
    return {"dataset": data.spec.name, **record} if record else {}


def is_held_out(images: object) -> bool:
    """Return whether images are a split of our own, and not one that was published."""
    return isinstance(images, Subset) and images.held_out is not None


def _record(split: Subset, num_labels: int) -> dict[str, Any]:
    assert split.held_out is not None and split.labels is not None
    whole = split.images.images if isinstance(split.images, DecodedImages) else split.images
    positions = split.positions.tolist()
    record = {
        "from": split.held_out.source,
        "from_images": len(whole),
        "images": len(split),
        "part": split.held_out.part,
        "seed": split.held_out.seed,
        "stratified": split.labels.ndim == 1,
        "images_per_label": _per_label(split.labels, num_labels),
        "positions": positions,
        **({} if split.held_out.drawn_by is None else {"drawn_by": split.held_out.drawn_by}),
    }
    if isinstance(whole, FileImages):
        names = whole.names()
        record["files"] = [names[position] for position in positions]
    return record


def _per_label(labels: Tensor, num_labels: int) -> list[int]:
    counts: list[int] = (labels.bincount(minlength=num_labels) if labels.ndim == 1 else labels.sum(dim=0)).tolist()
    return counts
