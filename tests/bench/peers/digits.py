"""The job that all sides do from the start of the process to final metrics: DINO on scikit-learn's digits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from tests.bench.peers.setting import Setting

SETTING = Setting(size=32, local=16, patch=8, stored=8, batch=50)
EPOCHS, K, TEMPERATURE = 1, 20, 0.07
NUM_TRAIN, NUM_TEST = 500, 597

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


def split() -> tuple[Split, Split]:
    """Return train and test: pixels, uint8 (N, 8, 8), and labels."""
    bunch = load_digits()
    pixels = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    train, test, train_labels, test_labels = train_test_split(
        pixels,
        bunch.target.astype(np.int64),
        train_size=NUM_TRAIN,
        test_size=NUM_TEST,
        stratify=bunch.target,
        random_state=0,
    )
    return (train, train_labels), (test, test_labels)
