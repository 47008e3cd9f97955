"""Your own images: a folder with `train/<class>/`, and optional `val/<class>/`, `test/<class>/` and `pretext/`."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch

from dinodiet.config.ranges import Between, Range
from dinodiet.data.dataset import RawSplits, hold_out, unlabelled
from dinodiet.data.images import FileImages
from dinodiet.data.shared import tell_shared
from dinodiet.data.sources.broken import Broken, handle_broken
from dinodiet.data.sources.class_names import class_names
from dinodiet.data.sources.download import local_assets
from dinodiet.data.sources.frames import Frames, framed
from dinodiet.data.sources.label_table import MakeImages, table_splits
from dinodiet.data.sources.used_bits import scale_to_used_bits
from dinodiet.data.sources.walk import EXTENSIONS, image_files, subfolders
from dinodiet.errors import NotOnDisk, UserError, printable
from dinodiet.io.assets import Asset, needs
from dinodiet.io.scratch import data_root
from dinodiet.types import Images

log = logging.getLogger(__name__)


def _assets(*, root: str, train: str) -> list[Asset]:
    folder = data_root(root)
    return local_assets(folder, folder.name, f"give the folder that holds {train}/<class>/")


@needs(_assets)
def image_folder(
    *,
    root: str,
    labels: str | None = None,
    train: str = "train",
    val: str | None = "val",
    test: str | None = "test",
    pretext: str | None = "pretext",
    test_fraction: Between[float] = 0.2,
    frames: Frames = "first",
    bits: Annotated[int | None, Range(8, 16)] = None,
    broken: Broken = "refuse",
) -> RawSplits:
    """Return the splits of an image folder; classes are the folders in `train`, in alphabetical order.

    Where there is no `train/<class>/`, all images are without labels: those in `pretext`, else in `train`, else
    anywhere below `root`. Self-supervised training needs no more. Links are followed, and no folder of a split is
    entered twice; what is left out, and images that are in two splits, are told in one line each.

    Args:
        root: the folder of the splits; its name is the dataset's.
        labels: a CSV file in `root` or elsewhere that says label and split of the files below `root`, in place of
            folders, see `table_splits`.
        train: folder with one folder a class, images at any depth below.
        val: as `train`; null, or no `val/`: validation images are held out of train when the dataset is opened.
        test: as `train`; null, or no `test/`: `test_fraction` of train, stratified and the same in every run.
        pretext: unlabelled images at any depth for self-supervised training; null, or no `pretext/`: train serves.
        test_fraction: the part of train that is held out for testing where there is no test folder.
        frames: of files with several (TIFF, GIF, WebP): the first, or all as images that are held out together.
        bits: how many of their bits 16-bit images use; null: what a sample of them uses, see `used_bits`.
        broken: what is done about images that cannot be decoded, see `handle_broken`.

    Raises:
        NotOnDisk: there is no such root.
        UserError: a folder is missing or has no images, or a class of val or test is not in train.
    """
    folder = data_root(root)
    if not folder.is_dir():
        raise NotOnDisk(f"root: no folder {folder}; give the folder that holds {train}/<class>/, or images alone")
    make = functools.partial(framed, frames=frames)
    if labels is not None:
        table = folder / labels
        table = table if table.is_file() or not Path(labels).expanduser().is_file() else Path(labels).expanduser()
        return _checked(table_splits(folder, table, test_fraction, make), bits, broken, folder)
    names = [name for name in (train, val, test, pretext) if name is not None]
    if len(set(names)) < len(names):
        raise UserError(f"{', '.join(names)} are the folders of the splits; they must differ")
    found = {split: _find(folder, split, name) for split, name in (("train", train), ("val", val), ("test", test))}
    only = _find(folder, "pretext", pretext)
    if found["train"] is not None and subfolders(found["train"]):
        images = None if only is None else make(_files(only)[0], None)
        source = _labelled_splits(folder, found | {"pretext": only}, images, test_fraction, make)
    elif found["val"] is None and found["test"] is None:
        source = unlabelled(printable(folder.resolve().name), make(_files(only or found["train"] or folder)[0], None))
        log.warning("%s: no %s/<class>/, so all %d images are without labels", folder, train, len(source.train))
    else:
        raise UserError(f"train: no class folders in {folder / train}, but there is a val or test folder")
    return _checked(source, bits, broken, folder)


def _checked(source: RawSplits, bits: int | None, broken: Broken, folder: Path) -> RawSplits:
    scale_to_used_bits((source.train, source.val, source.test, source.pretext), bits, folder)
    sound = handle_broken(source, broken, folder)
    if broken != "check":  # which compares the pixels of all images
        tell_shared(sound.name, sound.splits)
    return sound


def _labelled_splits(
    folder: Path, places: dict[str, Path | None], pretext: Images | None, test_fraction: float, make: MakeImages
) -> RawSplits:
    """Return the splits of a folder whose train has class folders."""
    assert places["train"] is not None
    others = [place for split, place in places.items() if split != "train" and place is not None]
    classes = class_folders(places["train"], others)
    splits = {
        split: labelled(place, classes, make, others)
        for split in ("train", "val", "test")
        if (place := places[split]) is not None
    }
    train: Images = splits["train"]
    test: Images | None = splits.get("test")
    if test is None:
        train, test = hold_out(train, test_fraction, str(folder))
    return RawSplits(
        printable(folder.resolve().name),
        train,
        test,
        len(classes),
        val=splits.get("val"),
        pretext=pretext,
        classes=class_names(classes),
    )


def _find(folder: Path, split: str, name: str | None) -> Path | None:
    """Return a split's folder; None where there is none, which is a mistake if it was named."""
    if name is None or (name == split and not (folder / name).exists()):
        return None
    if not (folder / name).is_dir():
        raise UserError(f"{split}: no folder {folder / name}; name one that exists, or null")
    return folder / name


def class_folders(train: Path, others: Sequence[Path] = ()) -> list[str]:
    """Return the names of the folders in a folder, sorted, without those of other splits; a UserError if none."""
    classes = [name for name in subfolders(train) if train / name not in others]
    if not classes:
        raise UserError(f"no class folders in {train}; images are expected in {train}/<class>/")
    return classes


def labelled(split: Path, classes: list[str], make: MakeImages = FileImages, others: Sequence[Path] = ()) -> FileImages:
    """Return the images of a split's class folders, sorted, with the positions of their classes as labels.

    Folders of `others`, the other splits, are no class folders.

    Raises:
        UserError: no class folders, one without images, or one that is not among the classes.
    """
    names = class_folders(split, others)
    if unknown := [name for name in names if name not in classes]:
        raise UserError(
            f"{split / unknown[0]}: class {unknown[0]!r} is not in train; choose from: {', '.join(classes)}"
        )
    found = _files(*(split / name for name in names), split=split)
    sizes = torch.tensor([len(paths) for paths in found])
    labels = torch.tensor([classes.index(name) for name in names]).repeat_interleave(sizes)
    return make([path for paths in found for path in paths], labels)


def _files(*folders: Path, split: Path | None = None) -> list[list[str]]:
    """Return the images at any depth below each folder, sorted; hidden files are not images."""
    found = image_files(folders, split)
    for folder, paths in zip(folders, found, strict=True):
        if not paths:
            raise UserError(f"no images in {folder}; known are {', '.join(EXTENSIONS)}")
    return found
