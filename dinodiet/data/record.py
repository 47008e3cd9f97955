"""A record of the dataset as a run used it, for who reads tables and pictures of the run later."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dinodiet.types import Data, InputSpec, Selection


def dataset_record(data: Data, input: InputSpec) -> dict[str, Any]:
    """Return what `dataset.json` says.

    Sizes of the splits; the names of the labels in their order, if known; how the images of a limited set were chosen,
    and those that keep their labels, and whether by labels; what images were normalised by, and where these numbers are
    from.
    """
    spec = data.spec
    sizes = {split: len(getattr(data, split)) for split in ("pretext", "train", "val", "test")}
    return {
        "dataset": spec.name,
        "images": sizes,
        "num_labels": spec.num_labels,
        "multilabel": spec.multilabel,
        "classes": spec.classes,
        "subset": None if data.selection is None else _selection(data.selection),
        "labelled": None if data.labelled is None else _selection(data.labelled),
        "normalization": {
            "origin": "checkpoint" if spec.statistics is None else spec.statistics.origin,
            "mean": input.mean,
            "std": input.std,
        },
    }


def _selection(selection: Selection) -> dict[str, Any]:
    return {**asdict(selection), "uses_labels": selection.uses_labels}
