"""Galaxy10 DECaLS (Leung and Bovy; labels of Galaxy Zoo): 17,736 galaxies of 10 shapes, one published .h5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinodiet.config.ranges import Between
from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import HeldOut, MappedImages, Subset
from dinodiet.data.sources.download import by_hand, ensure, published_assets
from dinodiet.data.sources.planned import counted, with_labels
from dinodiet.data.sources.published import check_published
from dinodiet.data.splits import stratified_split
from dinodiet.errors import UserError, one_line
from dinodiet.io.assets import Asset, needs, planned
from dinodiet.io.mistaken import why_broken
from dinodiet.io.room import check_room
from dinodiet.io.scratch import data_root, scratch_folder
from dinodiet.io.units import byte_size
from dinodiet.io.unpack import expansion_fault

URL = "https://zenodo.org/records/10845026/files/Galaxy10_DECals.h5"
SHA256 = "19aefc477c41bb7f77ff07599a6b82a038dc042f889a111b0d4d98bb755c1571"  # in its authors' package, astroNN
CLASSES = (  # as the authors' package, astroNN, lists them
    "disturbed",
    "merging",
    "round smooth",
    "in-between round smooth",
    "cigar-shaped smooth",
    "barred spiral",
    "unbarred tight spiral",
    "unbarred loose spiral",
    "edge-on without bulge",
    "edge-on with bulge",
)
BLOCK = 256  # images that are unpacked at once


def _assets(*, root: str, download: bool) -> list[Asset]:
    return published_assets(URL, data_root(root) / "Galaxy10_DECals.h5", "galaxy10_decals", download, sha256=SHA256)


def _counts(*, published: dict[str, int] | None, test_fraction: float) -> RawSplits:
    return counted("galaxy10_decals", published, side=256, test_fraction=test_fraction)


def _labels_alone(*, root: str, test_fraction: float, published: dict[str, int] | None) -> RawSplits:
    path = data_root(root) / "Galaxy10_DECals.h5"
    labels, side = _opened(path, None, by_hand(URL, path))
    rest, test = stratified_split(labels, test_fraction, seed=0)
    source = with_labels("galaxy10_decals", {"train": labels[rest], "test": labels[test]}, len(CLASSES), side)
    check_published(source, path, published, by_hand(URL, path))
    return source


@needs(_assets)
@planned(labels=_labels_alone, counts=_counts)
def galaxy10_decals(
    *,
    root: Neutral[str],
    test_fraction: Between[float] = 0.1,
    download: Neutral[bool] = True,
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return a stratified train and test split of `ROOT/Galaxy10_DECals.h5`, the same in every run.

    The file is compressed, and reading one of its images decompresses its neighbours: the images are unpacked once,
    in blocks, to an .npy file beside it (3.5 GB), which is mapped into memory.

    Args:
        root: the folder of the file.
        test_fraction: the part of the images that is held out for testing; no official split is published with it.
        download: get the file (2.7 GB) if it is not there.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: the file is missing and cannot be downloaded, is broken, or is not the published one.
    """
    path = data_root(root) / "Galaxy10_DECals.h5"
    how = by_hand(URL, path)
    ensure(URL, path, "galaxy10_decals", download, sha256=SHA256)
    labels, _ = _opened(path, path.with_suffix("") / "images.npy", how)
    every = MappedImages(path.with_suffix("") / "images.npy", labels)
    rest, test = stratified_split(labels, test_fraction, seed=0)
    test_images = Subset(every, test, HeldOut(test_fraction, seed=0, source="all"))
    source = RawSplits("galaxy10_decals", Subset(every, rest), test_images, len(CLASSES), classes=CLASSES)
    check_published(source, path, published, how)
    return source


def _opened(path: Path, target: Path | None, how: str) -> tuple[Tensor, int]:
    """Return the labels, int64 (N,), and the images' side; they are unpacked to `target`, uint8 (N, side, side, 3)."""
    try:
        import h5py  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UserError("galaxy10_decals needs h5py: pip install 'dinodiet[galaxy10]'") from error
    try:
        with h5py.File(path, "r") as file:
            images, labels = file["images"], file["ans"]
            if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or labels.shape != images.shape[:1]:
                raise ValueError(f"images are {images.dtype} {images.shape}, labels {labels.shape}")
            if told := expansion_fault(images.size, images.id.get_storage_size()):
                raise ValueError(f"images {told}")
            labels = np.asarray(labels).astype(np.int64)
            if target is not None and not _done(path, target, images.shape):
                _write(path, target, images)
            return torch.from_numpy(labels), int(images.shape[1])
    except (OSError, LookupError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        reason = why_broken(path, error)
        raise UserError(f"galaxy10_decals: {path} is broken ({reason}); delete it; {how}") from error


def _done(path: Path, target: Path, shape: tuple[int, ...]) -> bool:
    if not target.is_file() or target.stat().st_mtime < path.stat().st_mtime:
        return False
    try:
        return bool(np.load(target, mmap_mode="r", allow_pickle=False).shape == shape)
    except (OSError, ValueError):
        return False


def _write(path: Path, target: Path, images: Any) -> None:
    size = byte_size(images.size)
    try:
        with scratch_folder(target.parent, target.name) as scratch:
            if _done(path, target, images.shape):  # another job was faster
                return
            check_room(scratch, images.size)
            new = np.lib.format.open_memmap(scratch / target.name, mode="w+", dtype=np.uint8, shape=images.shape)
            for start in range(0, len(images), BLOCK):
                new[start : start + BLOCK] = _read(images, start)
            new.flush()
            (scratch / target.name).replace(target)
    except OSError as error:
        raise UserError(f"{target} ({size}) cannot be written ({one_line(error)}); make room") from error


def _read(images: Any, start: int) -> Any:
    try:
        return images[start : start + BLOCK]
    except OSError as error:  # h5py's word for blocks that cannot be decompressed, which is not a full disk
        raise ValueError(f"images from {start} on: {one_line(error)}") from error
