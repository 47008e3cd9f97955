"""Embeddings and images that are there already, as an evaluator that writes pictures is given them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dinodiet.data.images import TensorImages
from dinodiet.evals.splits import GivenSplits
from dinodiet.types import DataSpec, Embeddings, Images


@dataclass(frozen=True)
class GivenImages(GivenSplits):
    """Splits with images; `folder` None: nothing is kept."""

    spec: DataSpec = field(default_factory=lambda: DataSpec("set", 0, 0))
    folder: Path | None = None
    train_images: Images | None = None
    test_images: Images | None = None


def given(train: Embeddings, folder: Path | None, images: Images | None = None, **facts: Any) -> Any:
    """Return splits of embeddings, which are scored on themselves, with black images if none are given."""
    black = TensorImages(torch.zeros(len(train), 3, 8, 8, dtype=torch.uint8), train.labels_or_none)
    spec = DataSpec("set", len(train), train.num_labels, **facts)
    return GivenImages(train, train, spec=spec, folder=folder, train_images=images or black)
