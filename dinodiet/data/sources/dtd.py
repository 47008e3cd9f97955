"""Describable Textures Dataset (Cimpoi et al. 2014, arXiv:1311.3618): one of its ten official partitions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from dinodiet.config.ranges import Range
from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

PARTS = (
    Part(
        "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
        "dtd",
        "fff73e5086ae6bdbea199a49dfb8a4c1",
    ),
)


def _release(root: str) -> Release:
    return Release("dtd", data_root(root), PARTS)


@released("dtd", _release)
def dtd(
    *,
    root: Neutral[str],
    partition: Annotated[int, Range(1, 10)] = 1,
    download: Neutral[bool] = True,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the official splits of `ROOT/dtd/`: `images/<class>/`, `labels/train<partition>.txt`, `val...`, `test...`.

    Classes are the folders in alphabetical order. `ROOT/dtd/dtd/`, as torchvision unpacks it, is taken as well.

    Args:
        root: the folder that holds `dtd/`.
        partition: which of the ten divisions into train, val and test.
        download: get the archive (0.6 GB) if it is not there.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing and cannot be downloaded, or are not the published ones.
    """
    release = _release(root)
    release.ensure(download)
    folder = release.first("dtd/dtd", "dtd")
    classes = release.class_folders(folder / "images")
    train, val, test = (
        _listed(release, folder, classes, f"{split}{partition}.txt") for split in ("train", "val", "test")
    )
    source = RawSplits("dtd", train, test, len(classes), val=val, classes=tuple(classes))
    return release.checked(source, published, broken)


def _listed(release: Release, folder: Path, classes: list[str], file: str) -> FileImages:
    path = folder / "labels" / file
    names = release.lines(path)
    labels = release.labels(path, [name.partition("/")[0] for name in names], classes)
    return release.images(folder / "images", names, labels)
