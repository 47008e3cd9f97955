"""What images and labels are called in tables and under pictures."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dinodiet.data.images import names_of
from dinodiet.types import Images


def image_names(images: Images, split: str) -> list[str]:
    """Return the files of images; where they come from none of their own, their places in a split."""
    return names_of(images) or [f"{split} {place}" for place in range(len(images))]


def label_name(labels: Tensor | None, place: int, classes: Sequence[str] | None) -> str:
    """Return the name of an image's label; empty where it has none."""
    if labels is None:
        return ""
    label = int(labels[place])
    return str(label) if classes is None else classes[label]
