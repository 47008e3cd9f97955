"""What images and labels are called in tables and under pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dinodiet.data.images import Subset
from dinodiet.data.origin import files_below, root_of
from dinodiet.errors import printable
from dinodiet.types import Images


def image_names(images: Images, places: Sequence[int], split: str) -> list[str]:
    """Return the files of images, below the folder that holds all; of images that are no files, places in a split."""
    root = root_of([images], None)
    files = None if root is None else files_below(Subset(images, torch.tensor(places)), 0, len(places), root)
    return [f"{split} {place}" for place in places] if files is None else files


def label_name(labels: Tensor | None, place: int, classes: Sequence[str] | None) -> str:
    """Return the name of an image's label; empty where it has none."""
    return "" if labels is None else class_name(int(labels[place]), classes)


def class_name(label: int, classes: Sequence[str] | None) -> str:
    """Return the name of a label; its number where none is known."""
    return str(label) if classes is None else printable(classes[label])
