"""The twelve 2D sets of MedMNIST v2 (Yang et al. 2023, arXiv:2110.14795) and their larger sizes (MedMNIST+).

A set is one file, `ROOT/pathmnist.npz` (28 pixels) or `ROOT/pathmnist_64.npz`, in the layout of the medmnist package,
whose table says where it comes from, its MD5, its classes and how many images each split has.
"""

from __future__ import annotations

import zipfile
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from medmnist import INFO
from torch import Tensor

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import MappedImages, TensorImages, nchw
from dinodiet.data.sources import arrays
from dinodiet.data.sources.arrays import check_array, read_array
from dinodiet.data.sources.planned import counted, with_labels
from dinodiet.data.sources.published import check_published
from dinodiet.errors import NotOnDisk, UserError, one_line
from dinodiet.io.assets import Asset, needs, planned, present
from dinodiet.io.mistaken import why_broken
from dinodiet.io.room import check_room
from dinodiet.io.scratch import data_root, scratch_folder
from dinodiet.io.transfer import transfer
from dinodiet.io.units import byte_size
from dinodiet.types import Statistics

UNPACK_BYTES = 2**30
PIXELS = Statistics((0.5,) * 3, (0.5,) * 3)  # as its authors normalise
BROKEN = (OSError, *arrays.BROKEN)

Name = Literal[
    "pathmnist", "chestmnist", "dermamnist", "octmnist", "pneumoniamnist", "retinamnist",
    "breastmnist", "bloodmnist", "tissuemnist", "organamnist", "organcmnist", "organsmnist",
]  # fmt: skip


def _assets(*, name: Name, root: str, size: int, download: bool) -> list[Asset]:
    path = _path(name, root, size)
    return [Asset(path.stem, str(path), partial(present, path), lambda: _ensure(name, path, size, download))]


def _path(name: str, root: str, size: int) -> Path:
    return data_root(root) / f"{name}{_suffix(size)}.npz"


def _ensure(name: str, path: Path, size: int, download: bool) -> None:
    if not path.is_file():
        _download(name, path, size, download)


def _labels_alone(*, name: Name, root: str, size: int, published: dict[str, int] | None) -> RawSplits:
    path, multilabel = _path(name, root, size), _is_multilabel(name)
    try:
        labels = {split: _labels(path, split, multilabel) for split in ("train", "val", "test")}
    except BROKEN as error:
        raise UserError(f"{path} is broken ({why_broken(path, error)})") from error
    source = with_labels(name, labels, len(INFO[name]["label"]), size, multilabel)
    check_published(source, path, published, _by_hand(name, size))
    return source


def _counts(*, name: Name, size: int, published: dict[str, int] | None) -> RawSplits:
    return counted(name, published, side=size, multilabel=_is_multilabel(name))


def _is_multilabel(name: str) -> bool:
    return bool(INFO[name]["task"].startswith("multi-label"))


@needs(_assets)
@planned(labels=_labels_alone, counts=_counts)
def medmnist_set(
    *,
    name: Name,
    root: Neutral[str],
    size: Literal[28, 64, 128, 224] = 28,
    download: Neutral[bool] = True,
    unpack: Neutral[bool] = True,
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return a set's official train, validation and test splits; chestmnist is multi-label.

    Args:
        name: the set.
        root: the folder of the .npz files.
        size: the side of the images in pixels.
        download: get a file that is not there.
        unpack: images of more than 1 GiB are unpacked once, beside the file, and mapped into memory; false: they are
            read into memory as a whole.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: the file is missing and cannot be downloaded, is broken, or is another set.
    """
    info, path = INFO[name], _path(name, root, size)
    _ensure(name, path, size, download)
    multilabel = _is_multilabel(name)
    try:
        train, val, test = (_split(path, split, size, multilabel, unpack) for split in ("train", "val", "test"))
    except BROKEN as error:
        reason = why_broken(path, error)
        raise UserError(f"{path} is broken ({reason}); delete it and run again with download=true") from error
    classes = tuple(info["label"][str(label)] for label in range(len(info["label"])))
    source = RawSplits(
        name, train, test, len(classes), val=val, multilabel=multilabel, classes=classes, statistics=PIXELS
    )
    check_published(source, path, published, _by_hand(name, size))
    return source


def _split(path: Path, split: str, size: int, multilabel: bool, unpack: bool) -> TensorImages:
    labels = _labels(path, split, multilabel)
    images = _images(path, f"{split}_images", unpack)
    if images.images.shape[2:] != (size, size):
        raise ValueError(f"{split} images have shape {tuple(images.images.shape[2:])}, not {(size, size)}")
    if len(images) != len(labels):
        raise ValueError(f"{split} has {len(images)} images and {len(labels)} labels")
    images.labels = labels
    return images


def _labels(path: Path, split: str, multilabel: bool) -> Tensor:
    stored = read_array(path, f"{split}_labels").astype(np.int64)
    return torch.from_numpy(stored if multilabel else stored.reshape(-1))


def _images(path: Path, key: str, unpack: bool) -> TensorImages:
    with zipfile.ZipFile(path) as archive:
        num_bytes = check_array(archive, key)
    if unpack and num_bytes > UNPACK_BYTES:
        return MappedImages(_unpacked(path, key, num_bytes))
    return TensorImages(nchw(read_array(path, key)))


def _unpacked(path: Path, key: str, num_bytes: int) -> Path:
    """Return the .npy file of an array, unpacked from the .npz file unless that has been done."""
    target = path.with_suffix("") / f"{key}.npy"

    def done() -> bool:
        return (
            target.is_file() and target.stat().st_size == num_bytes and target.stat().st_mtime >= path.stat().st_mtime
        )

    if done():
        return target
    try:
        with scratch_folder(target.parent, key) as scratch:
            if not done():  # another job was faster
                check_room(scratch, num_bytes)
                with zipfile.ZipFile(path) as archive:
                    Path(archive.extract(f"{key}.npy", scratch)).replace(target)
    except OSError as error:
        reason = one_line(error)
        raise UserError(
            f"{target} ({byte_size(num_bytes)}) cannot be written ({reason}); "
            "make room, or hold the images in memory with unpack=false"
        ) from error
    return target


def _download(name: str, path: Path, size: int, download: bool) -> None:
    how = _by_hand(name, size)
    if not download:
        raise NotOnDisk(f"{path} not found; {how}, or set download=true")
    try:
        with scratch_folder(path.parent, path.name):
            transfer(INFO[name][f"url{_suffix(size)}"], path, md5=INFO[name][f"MD5{_suffix(size)}"])
    except (OSError, HTTPException) as error:
        raise NotOnDisk(f"{path} not found, and the download failed ({one_line(error)}); {how}") from error


def _by_hand(name: str, size: int) -> str:
    return f"get {INFO[name][f'url{_suffix(size)}'].removesuffix('?download=1')} and put it there"


def _suffix(size: int) -> str:
    return "" if size == 28 else f"_{size}"
