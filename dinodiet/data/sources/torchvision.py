"""MNIST, Fashion-MNIST, CIFAR-10 and CIFAR-100 through torchvision's classes, from local files or downloaded."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torchvision
from torchvision.datasets.mnist import read_sn3_pascalvincent_tensor
from torchvision.datasets.utils import check_integrity

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import TensorImages, nchw
from dinodiet.data.sources.planned import counted
from dinodiet.data.sources.published import check_published
from dinodiet.errors import NotOnDisk, UserError, one_line
from dinodiet.io.assets import Asset, needs, planned
from dinodiet.io.limits import raise_limit
from dinodiet.io.mistaken import why_broken
from dinodiet.io.scratch import data_root, scratch_folder
from dinodiet.io.transfer import transfer
from dinodiet.io.unpack import BROKEN as BROKEN_ARCHIVE
from dinodiet.io.unpack import UnsafeArchive, gunzip, unpack
from dinodiet.types import Statistics

PIXELS = {  # as everybody normalises them
    "MNIST": Statistics((0.1307,) * 3, (0.3081,) * 3),
    "FashionMNIST": Statistics((0.2860,) * 3, (0.3530,) * 3),
    "CIFAR10": Statistics((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR100": Statistics((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
}
# What torchvision's readers raise for a broken file.
BROKEN = (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AssertionError, pickle.UnpicklingError)


def _assets(*, dataset: str, root: str, download: bool) -> list[Asset]:
    cls, folder = getattr(torchvision.datasets, dataset), data_root(root)
    files = _files(cls, folder)
    place = next(iter(files)).parent

    def find() -> Path | None:
        return None if _missing({path: None for path in files if not _packed(path).is_file()}) else place

    return [Asset(dataset, str(place), find, lambda: _ensure(cls, folder, download))]


def _counts(*, dataset: str, published: dict[str, int] | None) -> RawSplits:
    return counted(dataset, published, side=32 if dataset.startswith("CIFAR") else 28)


@needs(_assets)
@planned(counts=_counts)
def torchvision_set(
    *,
    dataset: Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"],
    root: Neutral[str],
    download: Neutral[bool] = True,
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the official train and test splits of a set, read from torchvision's layout in `root`.

    Args:
        dataset: the class in `torchvision.datasets`.
        root: the folder of the layout.
        download: get the files that are not there.
        published: counts to hold the set against, see `check_published`.

    Raises:
        NotOnDisk: a file is missing and cannot be downloaded.
        UserError: a file is broken, or of another set.
    """
    cls, folder = getattr(torchvision.datasets, dataset), data_root(root)
    source = open_class(cls, folder, download)
    check_published(source, folder, published, _how(cls, None))
    return source


def open_class(cls: Any, root: Path, download: bool) -> RawSplits:
    """Return the splits of a class made like torchvision's MNIST or CIFAR10; see `torchvision_set`."""
    files = _ensure(cls, root, download)
    try:
        if not hasattr(cls, "base_folder"):
            train_images, train_labels, test_images, test_labels = map(read_sn3_pascalvincent_tensor, map(str, files))
            train, test = _images(train_images, train_labels), _images(test_images, test_labels)
            return _named(cls, train, test, cls.classes)
        whole = [cls(root, train=is_train) for is_train in (True, False)]  # unpickles files of the right MD5 alone
        train, test = (_images(part.data, part.targets) for part in whole)
        return _named(cls, train, test, whole[0].classes)
    except BROKEN as error:
        raise_limit(error, root)
        broken = next((path for path, md5 in files.items() if not _sound(path, md5)), None)
        found = (
            f"{broken} is broken and to be deleted"
            if broken
            else f"the files in {next(iter(files)).parent} do not belong together"
        )
        raise UserError(f"{cls.__name__}: {found} ({one_line(error)}); {_how(cls, broken)}") from error


def _named(cls: Any, train: TensorImages, test: TensorImages, classes: Sequence[str]) -> RawSplits:
    name = str(cls.__name__)
    return RawSplits(name, train, test, len(classes), classes=tuple(classes), statistics=PIXELS.get(name))


def _ensure(cls: Any, root: Path, download: bool) -> dict[Path, str | None]:
    """Have the files of a class in their places and return them; see `_files`."""
    files = _files(cls, root)
    for path in files:
        _unpack(_packed(path), path)
    if download and _missing(files):
        _download(cls, root, files)
    if missing := _missing(files):
        raise NotOnDisk(f"{cls.__name__}: {missing} not found; {_how(cls, missing)}, or set download=true")
    return files


def _packed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")


def _images(pixels: Any, labels: Any) -> TensorImages:
    return TensorImages(nchw(np.asarray(pixels)), torch.as_tensor(labels, dtype=torch.int64))


def _files(cls: Any, root: Path) -> dict[Path, str | None]:
    """Return where the class looks for its files, with the MD5 of each where one is published for it."""
    if hasattr(cls, "base_folder"):  # CIFAR
        listed = [*cls.train_list, *cls.test_list, (cls.meta["filename"], cls.meta["md5"])]
        return {root / cls.base_folder / name: md5 for name, md5 in listed}
    return {root / cls.__name__ / "raw" / Path(name).stem: None for name, _ in cls.resources}


def _missing(files: dict[Path, str | None]) -> Path | None:
    return next((path for path in files if not path.is_file()), None)


def _sound(path: Path, md5: str | None) -> bool:
    if md5 is not None:
        return bool(check_integrity(path, md5))
    try:
        read_sn3_pascalvincent_tensor(str(path))
    except BROKEN:
        return False
    return True


def _unpack(packed: Path, path: Path) -> None:
    """Unpack a file that was put there as it is published; torchvision reads only unpacked ones."""
    if path.is_file() or not packed.is_file():
        return
    try:
        with scratch_folder(path.parent, path.name) as scratch:
            gunzip(packed, scratch / path.name)
            (scratch / path.name).replace(path)
    except (OSError, UnsafeArchive, *BROKEN_ARCHIVE) as error:
        raise UserError(f"{packed} cannot be unpacked ({why_broken(packed, error)})") from error


def _download(cls: Any, root: Path, files: dict[Path, str | None]) -> None:
    try:
        with scratch_folder(root, cls.__name__) as scratch:
            if not _missing(files):  # another job was faster
                return
            if hasattr(cls, "url"):  # one large archive: continued where it was cut off; and unpacked with checks
                archive = root / cls.filename
                transfer(cls.url, archive, md5=cls.tgz_md5)
                unpack(archive, scratch, holds=cls.base_folder)
                archive.unlink()
            else:
                for name, md5 in cls.resources:
                    _from_mirrors(cls.mirrors, name, md5, scratch)
            for path in files:
                path.parent.mkdir(parents=True, exist_ok=True)
                (scratch / (path.relative_to(root) if hasattr(cls, "url") else path.name)).replace(path)
    except (UnsafeArchive, HTTPException, *BROKEN_ARCHIVE, *BROKEN) as error:
        missing = _missing(files)
        raise NotOnDisk(
            f"{cls.__name__}: {missing} not found, and the download failed ({one_line(error)}); {_how(cls, missing)}"
        ) from error


def _from_mirrors(mirrors: Sequence[str], name: str, md5: str, folder: Path) -> None:
    """Put the unpacked content of a file into a folder, from the first mirror that has it whole."""
    for number, mirror in enumerate(mirrors):
        try:
            transfer(f"{mirror}{name}", folder / name, md5=md5)
        except (OSError, HTTPException):
            if number == len(mirrors) - 1:
                raise
        else:
            gunzip(folder / name, folder / Path(name).stem)
            return


def _how(cls: Any, path: Path | None) -> str:
    """Return where to get a file by hand, and where to put it."""
    if hasattr(cls, "url"):
        return f"get {cls.url} and unpack it in data_dir"
    names = [name for name, _ in cls.resources if path is not None and Path(name).stem == path.name]
    return f"get {cls.mirrors[0]}{names[0] if names else ''} and put it there"
