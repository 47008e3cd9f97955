"""Where the images of a split come from: their places in the published set, and their files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from dinodiet.data.cache.decoded import DecodedImages
from dinodiet.data.images import FileImages, Subset, below
from dinodiet.errors import printable
from dinodiet.types import Images


def positions_of(images: Images) -> Tensor:
    """Return the position of each image in the set that it was selected from, int64 (N,)."""
    return images.positions if isinstance(images, Subset) else torch.arange(len(images))


def files_below(images: Images, start: int, stop: int, root: str) -> list[str] | None:
    """Return the paths below `root` of the images from `start` to before `stop`; None where they are no files.

    Frames of a file are `file#number`. What is no UTF-8 in a name is shown as `\\xff`.
    """
    whole = _whole(images)
    if not isinstance(whole, FileImages):
        return None
    encoded = [whole.encoded(position) for position in positions_of(images)[start:stop].tolist()]
    names = [printable(below(root, path)) for path, _ in encoded]
    if whole.frames is None:
        return names
    return [f"{name}#{frame}" for name, (_, frame) in zip(names, encoded, strict=True)]


def root_of(splits: Sequence[Images], given: str | None) -> str | None:
    """Return the folder that files are named below: the given one, or the one that holds all; None: there are none."""
    files = [whole.paths for images in splits if isinstance(whole := _whole(images), FileImages) and whole.paths]
    if not files:
        return None
    ends = [path for paths in files for path in (min(paths), max(paths))]
    folder = None if given is None else os.fspath(Path(given).expanduser())
    if folder is not None and all(Path(path).is_relative_to(folder) for path in ends):
        return folder
    return os.path.commonpath([os.path.dirname(path) for path in ends])  # noqa: PTH120 - paths are text here


def part_of(images: Images, start: int, stop: int) -> Images:
    """Return the images from `start` to before `stop`, with a fingerprint that tells nothing of other image files."""
    positions = positions_of(images)[start:stop]
    whole = _whole(images)
    if not isinstance(whole, FileImages):
        return Subset(whole, positions)
    chosen = positions.tolist()
    frames = None if whole.frames is None else [whole.frames[position] for position in chosen]
    labels = None if whole.labels is None else whole.labels[positions]
    part = FileImages([whole.paths[position] for position in chosen], labels, whole.draft_side, frames)
    part.bits = whole.bits
    return part


def _whole(images: Images) -> Images:
    """Return the set that images were selected from, also where its pixels are kept elsewhere."""
    while isinstance(images, (Subset, DecodedImages)):
        images = images.images
    return images
