"""Caltech-UCSD Birds 200-2011 (Wah et al. 2011): 200 species of birds, official train and test splits."""

from __future__ import annotations

from pathlib import Path

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

PARTS = (
    Part(
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        "CUB_200_2011",
        "97eceeb196236b17998738112f37df78",
    ),
)


def _release(root: str) -> Release:
    return Release("cub200", data_root(root), PARTS)


@released("cub200", _release)
def cub200(
    *,
    root: Neutral[str],
    download: Neutral[bool] = True,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the official splits of `ROOT/CUB_200_2011/`: `images/<class>/`, and five lists that begin with an id.

    The lists are `images.txt`, `image_class_labels.txt`, `train_test_split.txt` (1 is train) and `classes.txt`, whose
    order is that of the labels. Images are not cropped to the boxes of the birds.

    Args:
        root: the folder that holds `CUB_200_2011/`.
        download: get the archive (1.2 GB) if it is not there.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing and cannot be downloaded, or are not the published ones.
    """
    release = _release(root)
    release.ensure(download)
    folder = release.first("CUB_200_2011/CUB_200_2011", "CUB_200_2011")
    classes = dict(_pairs(release, folder / "classes.txt"))
    files = dict(_pairs(release, folder / "images.txt"))
    labels = _of_images(release, folder / "image_class_labels.txt", files, list(classes))
    part = _of_images(release, folder / "train_test_split.txt", files, ["0", "1"])
    test, train = (_images(release, folder, files, labels, part, which) for which in (0, 1))
    source = RawSplits("cub200", train, test, len(classes), classes=tuple(map(_name, classes.values())))
    return release.checked(source, published, broken)


def _name(folder: str) -> str:
    return folder.partition(".")[2] or folder


def _pairs(release: Release, path: Path) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in release.rows(path, 2)]


def _of_images(release: Release, path: Path, files: dict[str, str], choices: list[str]) -> dict[str, int]:
    """Return by image which of the choices a list names for it."""
    found = dict(_pairs(release, path))
    if lost := [image for image in files if image not in found]:
        raise release.fault(path, f"image {lost[0]} is not listed")
    return dict(zip(files, release.labels(path, [found[image] for image in files], choices), strict=True))


def _images(
    release: Release, folder: Path, files: dict[str, str], labels: dict[str, int], part: dict[str, int], which: int
) -> FileImages:
    chosen = [image for image in files if part[image] == which]
    return release.images(folder / "images", [files[image] for image in chosen], [labels[image] for image in chosen])
