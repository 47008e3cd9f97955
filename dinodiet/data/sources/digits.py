"""Handwritten digits that come with scikit-learn: 1,797 gray images of 8 x 8 pixels, 10 classes, always there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import HeldOut, Subset, TensorImages
from dinodiet.data.splits import stratified_split
from dinodiet.io.assets import Asset, needs

NUM_VAL, NUM_TEST = 200, 597  # of 1,797; there is no official split, this one is ours


def _assets() -> list[Asset]:
    return [Asset("digits", "comes with scikit-learn")]


@needs(_assets)
def digits() -> RawSplits:
    """Return train (1,000), val (200) and test (597), stratified by class and always the same."""
    images, labels = _read()
    every = TensorImages(images, labels)
    rest, test = stratified_split(labels, NUM_TEST, seed=0)
    train, val = stratified_split(labels[rest], NUM_VAL, seed=0)
    return RawSplits(
        name="digits",
        train=Subset(every, rest[train]),
        val=Subset(every, rest[val], HeldOut(NUM_VAL, seed=0, source="all without test")),
        test=Subset(every, test, HeldOut(NUM_TEST, seed=0, source="all")),
        num_labels=10,
        classes=tuple(map(str, range(10))),
    )


def _read() -> tuple[Tensor, Tensor]:
    """Return all images, uint8 (1797, 1, 8, 8), and their classes (1797,)."""
    from sklearn.datasets import load_digits  # noqa: PLC0415 - the import takes seconds, and other sets do without

    values, classes = load_digits(return_X_y=True)
    # The values are counts from 0 to 16.
    images = torch.from_numpy(np.rint(values * (255 / 16)).astype(np.uint8)).view(-1, 1, 8, 8)
    return images, torch.from_numpy(classes.astype(np.int64))
