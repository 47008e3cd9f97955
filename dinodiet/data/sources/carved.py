"""The split that studies give sets without an official one: 80/10/10, stratified by scikit-learn with seed 42."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
from torch import Tensor

from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages, HeldOut, Subset
from dinodiet.data.shared import tell_shared
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.planned import counted
from dinodiet.data.sources.release import Release
from dinodiet.errors import UserError, one_line

SEED, PART = 42, 0.2  # a fifth is taken off, and divided into val and test
HOW = f"scikit-learn: train_test_split({PART}, stratify, seed {SEED}), then half of that part"


def carved(
    release: Release, images: FileImages, classes: Sequence[str], published: dict[str, int] | None, broken: Broken
) -> RawSplits:
    """Return the carved splits of all images of a set, checked; the split does not depend on any seed of a run.

    Images that are in two splits by content are told, and stay: the split is the one that others have.

    Raises:
        UserError: counts are not the published ones, or a class has too few images to be divided.
    """
    assert images.labels is not None
    try:
        train, val, test = carve(images.labels)
    except ValueError as error:
        raise UserError(f"{release.name}: {len(images)} images cannot be split ({one_line(error)})") from error
    held_out = HeldOut(PART / 2, SEED, source="all", drawn_by=HOW)
    source = RawSplits(
        release.name,
        Subset(images, train),
        Subset(images, test, held_out),
        len(classes),
        val=Subset(images, val, held_out),
        classes=tuple(classes),
    )
    found = release.checked(source, published, broken)
    if broken != "check":  # which compares the pixels of all images
        tell_shared(found.name, found.splits)
    return found


def carve(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the positions of train, val and test among images with labels (N,), each sorted.

    Raises:
        ValueError: a class has too few images.
    """
    from sklearn.model_selection import train_test_split  # noqa: PLC0415 - the import takes seconds

    every, classes = np.arange(len(labels)), labels.numpy()
    train, rest = train_test_split(every, test_size=PART, stratify=classes, random_state=SEED)
    val, test = train_test_split(rest, test_size=0.5, stratify=classes[rest], random_state=SEED)
    return _sorted(train), _sorted(val), _sorted(test)


def carved_counts(name: str, published: dict[str, int] | None) -> RawSplits:
    """Return what planning knows of a carved set: the published number of `all` images, divided."""
    if published is None or "all" not in published or "classes" not in published:
        return counted(name, None)
    rest = ceil(published["all"] * PART)
    test = ceil(rest / 2)
    sizes = {"train": published["all"] - rest, "val": rest - test, "test": test}
    return counted(name, {"classes": published["classes"], **sizes})


def _sorted(positions: np.ndarray) -> Tensor:
    return torch.from_numpy(np.sort(positions).astype(np.int64))
