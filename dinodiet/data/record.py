"""A record of the dataset as a run used it, for who reads tables and pictures of the run later."""

from __future__ import annotations

from typing import Any

from dinodiet.types import Data


def dataset_record(data: Data) -> dict[str, Any]:
    """Return what `dataset.json` says: sizes of the splits, and the names of the labels in their order, if known."""
    spec = data.spec
    sizes = {split: len(getattr(data, split)) for split in ("pretext", "train", "val", "test")}
    return {
        "dataset": spec.name,
        "images": sizes,
        "num_labels": spec.num_labels,
        "multilabel": spec.multilabel,
        "classes": spec.classes,
    }
