"""Handwritten digits that come with scikit-learn: 1,797 gray images of 8 x 8 pixels, 10 classes, always there."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from dinodiet.assets import Asset, needs
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import Carved, Subset, TensorImages
from dinodiet.data.splits import stratified_split

NUM_VAL, NUM_TEST = 200, 597  # of 1,797; there is no official split, this one is ours


def _assets() -> list[Asset]:
    return [Asset("digits", "comes with scikit-learn")]


@needs(_assets)
def digits() -> RawSplits:
    """Return train (1,000), val (200) and test (597), stratified by class and always the same."""
    bunch = load_digits()
    # The values are counts from 0 to 16.
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8)).unsqueeze(1)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    every = TensorImages(images, labels)
    rest, test = stratified_split(labels, NUM_TEST, seed=0)
    train, val = stratified_split(labels[rest], NUM_VAL, seed=0)
    return RawSplits(
        name="digits",
        train=Subset(every, rest[train]),
        val=Subset(every, rest[val], Carved(NUM_VAL, seed=0, source="all without test")),
        test=Subset(every, test, Carved(NUM_TEST, seed=0, source="all")),
        num_labels=10,
    )
