"""The few images that pictures of a network show, as it sees them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dinodiet.data.images import fetch
from dinodiet.data.preprocess import preprocess
from dinodiet.evals.measures.rows import evenly
from dinodiet.evals.pictures.names import image_names
from dinodiet.types import EncoderSplits


@dataclass(frozen=True)
class LookedAt:
    """Images (n, 3, side, side) in 0..1, their places in their split, and what they are called."""

    pixels: Tensor
    places: Tensor
    names: list[str]


def looked_at(splits: EncoderSplits, number: int) -> LookedAt:
    """Return so many images, spread evenly over the reported split; of sets without labels over train."""
    images, split = (splits.test_images, "image") if len(splits.test_images) else (splits.train_images, "train")
    places = evenly(len(images), number)
    pixels = preprocess(fetch(images, places), splits.input)
    return LookedAt(pixels, torch.as_tensor(places), image_names(images, list(map(int, places)), split))
