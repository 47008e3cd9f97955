"""Food-101 (Bossard et al. 2014) from its published folder: 101 dishes, official train and test splits."""

from __future__ import annotations

import json
from pathlib import Path

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

URL = "http://data.vision.ee.ethz.ch/cvl/food-101.tar.gz"
MD5 = "85eeb15f3717b99a5da872d97d918f87"


def _assets(*, root: str, download: bool) -> list[Asset]:
    return published_assets(URL, data_root(root) / "food-101", "food101", download, MD5)


def _counts(*, published: dict[str, int] | None) -> RawSplits:
    return counted("food101", published)


@needs(_assets)
@planned(counts=_counts)
def food101(
    *,
    root: Neutral[str],
    download: Neutral[bool] = True,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the official splits of `ROOT/food-101/`: `images/<class>/<id>.jpg`, `meta/train.json`, `meta/test.json`.

    Args:
        root: the folder that holds `food-101/`.
        download: get the archive (5 GB) if that folder is not there.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing and cannot be downloaded, or are not the published ones.
    """
    folder = data_root(root) / "food-101"
    how = by_hand(URL, folder)
    ensure(URL, folder, "food101", download, MD5)
    lists = {split: _read(folder / "meta" / f"{split}.json", how) for split in ("train", "test")}
    classes = sorted(lists["train"])
    if classes != sorted(lists["test"]):
        raise UserError(f"food101: the classes of {folder / 'meta'}/train.json and test.json differ; {how}")
    train, test = (_images(folder / "images", lists[split], classes, how) for split in ("train", "test"))
    source = RawSplits("food101", train, test, num_labels=len(classes), classes=tuple(classes))
    check_published(source, folder, published, how)
    return handle_broken(source, broken, folder)


def _read(path: Path, how: str) -> dict[str, list[str]]:
    """Return the names of the images, `class/id`, by class."""
    try:
        lists: dict[str, list[str]] = json.loads(path.read_text())
        return {name: [str(image) for image in images] for name, images in lists.items()}
    except FileNotFoundError as error:
        raise NotOnDisk(f"food101: {path} not found; {how}") from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"food101: {path} is broken ({why_broken(path, error)}); {how}") from error


def _images(folder: Path, names: dict[str, list[str]], classes: list[str], how: str) -> FileImages:
    labels = [label for label, name in enumerate(classes) for _ in names[name]]
    relative = [f"{image}.jpg" for name in classes for image in names[name]]
    return FileImages(listed_files("food101", folder, relative, how), torch.tensor(labels))
