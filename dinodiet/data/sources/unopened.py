"""What is known of a dataset without reading or downloading its images: for planning, not for training.

A peek has the arguments of the source whose place it takes, and returns splits of the true lengths and labels whose
images are blank and take no memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from medmnist import INFO
from torch import Tensor

from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import TensorImages
from dinodiet.data.sources.fgvc_aircraft import CLASSES, Level
from dinodiet.data.sources.medmnist import BROKEN
from dinodiet.errors import UserError
from dinodiet.io.scratch import data_root

SPLITS = ("train", "val", "test")
TORCHVISION = {"MNIST": (60_000, 10, 28), "FashionMNIST": (60_000, 10, 28)} | {
    "CIFAR10": (50_000, 10, 32),
    "CIFAR100": (50_000, 100, 32),
}  # training images, classes, side; each has 10,000 test images


def medmnist_labels(*, name: str, root: str, size: int = 28, **_: Any) -> RawSplits:
    """Return a MedMNIST set as its file says; only the labels are read.

    Raises:
        UserError: the file is not there, or is broken.
    """
    path = data_root(root) / (f"{name}.npz" if size == 28 else f"{name}_{size}.npz")
    if not path.is_file():
        raise UserError(f"{path} not found")
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            labels = {split: torch.from_numpy(arrays[f"{split}_labels"].astype(np.int64)) for split in SPLITS}
    except BROKEN as error:
        raise UserError(f"{path} is broken ({' '.join(str(error).split())})") from error
    if not INFO[name]["task"].startswith("multi-label"):
        labels = {split: found.reshape(-1) for split, found in labels.items()}
    return _medmnist(name, size, labels)


def medmnist_published(*, name: str, size: int = 28, **_: Any) -> RawSplits:
    """Return a MedMNIST set as it was published; labels are made up, every class in turn."""
    info = INFO[name]
    multilabel = info["task"].startswith("multi-label")
    labels = {split: _labels(info["n_samples"][split], len(info["label"]), multilabel) for split in SPLITS}
    return _medmnist(name, size, labels)


def torchvision_published(*, dataset: str, **_: Any) -> RawSplits:
    """Return one of torchvision's sets as it was published; labels are made up, every class in turn."""
    count, num_labels, side = TORCHVISION[dataset]
    train, test = (_blank(_labels(number, num_labels), side) for number in (count, 10_000))
    return RawSplits(name=dataset, train=train, test=test, num_labels=num_labels)


def files_published(
    *, published: dict[str, int], level: Level | None = None, test_fraction: float = 0.2, **_: Any
) -> RawSplits:
    """Return a set of files as its settings say that it was published; labels are made up, every class in turn.

    Args:
        published: see `check_published`; the sizes of the splits, or of `all` of them.
        level: of FGVC-Aircraft, which the number of classes follows from.
        test_fraction: the part of the images that is held out, where only the size of all is published.
    """
    classes = published["classes"] if level is None else CLASSES[level][1]
    sizes = {split: published[split] for split in SPLITS if split in published}
    if "all" in published:
        held_out = round(published["all"] * test_fraction)
        sizes = {"train": published["all"] - held_out, "test": held_out}
    train, val, test = (_Files(_labels(sizes[split], classes)) if split in sizes else None for split in SPLITS)
    assert train is not None
    assert test is not None
    return RawSplits(name="published", num_labels=classes, train=train, val=val, test=test)


class _Files:
    """Labelled images of unknown and different sizes, which are not there."""

    def __init__(self, labels: Tensor) -> None:
        self.labels: Tensor | None = labels
        self._length = len(labels)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Tensor:
        raise NotImplementedError

    def fingerprint(self) -> str:
        raise NotImplementedError


def unknown(*, count: int, **_: Any) -> RawSplits:
    """Return a set of which nothing is known: `count` training images of 224 pixels, two classes."""
    splits = [_blank(_labels(count, 2), 224) for _ in SPLITS]
    return RawSplits(name="unknown", train=splits[0], val=splits[1], test=splits[2], num_labels=2)


def _medmnist(name: str, size: int, labels: dict[str, Tensor]) -> RawSplits:
    info = INFO[name]
    splits = {split: _blank(found, size) for split, found in labels.items()}
    multilabel = info["task"].startswith("multi-label")
    return RawSplits(name=name, num_labels=len(info["label"]), multilabel=multilabel, **splits)


def _labels(count: int, num_labels: int, multilabel: bool = False) -> Tensor:
    labels = torch.arange(count) % num_labels
    return torch.nn.functional.one_hot(labels, num_labels) if multilabel else labels


def _blank(labels: Tensor, side: int) -> TensorImages:
    return TensorImages(torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(len(labels), 1, side, side), labels)
