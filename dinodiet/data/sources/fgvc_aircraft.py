"""FGVC-Aircraft (Maji et al. 2013, arXiv:1306.5151) from its published folder, official train, val and test splits."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.broken import Broken, handle_broken
from dinodiet.data.sources.download import by_hand, ensure, published_assets
from dinodiet.data.sources.planned import counted
from dinodiet.data.sources.published import check_published, listed_files
from dinodiet.errors import NotOnDisk, UserError
from dinodiet.io.assets import Asset, needs, planned
from dinodiet.io.mistaken import why_broken
from dinodiet.io.scratch import data_root

URL = "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz"
Level = Literal["variant", "family", "manufacturer"]
CLASSES: dict[Level, tuple[str, int]] = {  # the file of the class names, and how many there are
    "variant": ("variants.txt", 100),
    "family": ("families.txt", 70),
    "manufacturer": ("manufacturers.txt", 30),
}


def _assets(*, root: str, download: bool) -> list[Asset]:
    return published_assets(URL, data_root(root) / "fgvc-aircraft-2013b", "fgvc_aircraft", download)


def _counts(*, published: dict[str, int] | None, level: Level) -> RawSplits:
    return counted("fgvc_aircraft", None if published is None else {"classes": CLASSES[level][1], **published})


@needs(_assets)
@planned(counts=_counts)
def fgvc_aircraft(
    *,
    root: Neutral[str],
    level: Level = "variant",
    download: Neutral[bool] = True,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the official splits of `ROOT/fgvc-aircraft-2013b/data/`.

    Args:
        root: the folder that holds `fgvc-aircraft-2013b/`.
        level: what the classes are: 100 variants, 70 families or 30 manufacturers.
        download: get the archive (2.7 GB) if that folder is not there.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`; the number of classes follows from `level`.

    Raises:
        UserError: files are missing and cannot be downloaded, or are not the published ones.
    """
    base = data_root(root) / "fgvc-aircraft-2013b"
    how = by_hand(URL, base)
    ensure(URL, base, "fgvc_aircraft", download)
    folder, (file, num_classes) = base / "data", CLASSES[level]
    classes = _lines(folder / file, how)
    train, val, test = (
        _images(folder, f"images_{level}_{split}.txt", classes, how) for split in ("train", "val", "test")
    )
    source = RawSplits("fgvc_aircraft", train, test, len(classes), val=val, classes=tuple(classes))
    check_published(source, folder, None if published is None else {"classes": num_classes, **published}, how)
    return handle_broken(source, broken, base)


def _lines(path: Path, how: str) -> list[str]:
    try:
        return [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise NotOnDisk(f"fgvc_aircraft: {path} not found; {how}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"fgvc_aircraft: {path} is broken ({why_broken(path, error)}); {how}") from error


def _images(folder: Path, file: str, classes: list[str], how: str) -> FileImages:
    rows = [line.partition(" ") for line in _lines(folder / file, how)]
    label = {name: position for position, name in enumerate(classes)}
    if unknown := [" ".join(row[::2]) for row in rows if row[2] not in label]:
        raise UserError(f"fgvc_aircraft: {folder / file}: no class of {unknown[0]!r} is known; {how}")
    paths = listed_files("fgvc_aircraft", folder / "images", [f"{row[0]}.jpg" for row in rows], how)
    return FileImages(paths, torch.tensor([label[row[2]] for row in rows]))
