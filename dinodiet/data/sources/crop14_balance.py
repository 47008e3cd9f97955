"""Crop14 balance: photographs of 14 crops, a set of the Hugging Face hub, or the same images as a folder tree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dinodiet.config.ranges import Between
from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.download import local_assets
from dinodiet.data.sources.folder import image_folder
from dinodiet.data.sources.huggingface import huggingface_set, set_assets
from dinodiet.data.sources.planned import counted
from dinodiet.data.sources.published import check_published, require
from dinodiet.data.sources.walk import subfolders
from dinodiet.io.assets import Asset, needs, planned
from dinodiet.io.scratch import data_root

NAME = "gary109/crop14_balance"
HOW = f"get the files of huggingface.co/datasets/{NAME}"


def _assets(*, root: str, download: bool) -> list[Asset]:
    folder, cache = _places(root)
    if folder.is_dir() or not download:
        return local_assets(folder, "crop14_balance", HOW)
    return set_assets(root=str(cache), name=NAME, path=None, config=None, revision=None, download=True)


def _places(root: str) -> tuple[Path, Path]:
    return data_root(root) / "crop14_balance", data_root(root) / "huggingface"


def _counts(*, published: dict[str, int] | None, test_fraction: float) -> RawSplits:
    return counted("crop14_balance", published, test_fraction=test_fraction)


@needs(_assets)
@planned(counts=_counts)
def crop14_balance(
    *,
    root: Neutral[str],
    download: Neutral[bool] = True,
    test_fraction: Between[float] = 0.2,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the set from `ROOT/crop14_balance/`, or from the hub where there is no such folder.

    The folder holds the hub's Parquet files, or `train/<class>/` and optional `validation/<class>/` and
    `test/<class>/`. The official splits are train and validation: validation serves as test, since it is what scores
    are published on, and a validation split is held out of train. Of a folder with train alone a stratified test split
    is held out.

    Args:
        root: the folder of `crop14_balance/`, and where the hub's files are kept.
        download: get the set from the hub if the folder is not there.
        test_fraction: the part of train that is held out for testing where there is no other split.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing, or are not the published ones.
    """
    folder, cache = _places(root)
    if not (folder.is_dir() or download):
        require(folder, "crop14_balance", f"{HOW} and put them there, or set download=true")
    if (folder / "train").is_dir() and subfolders(folder / "train"):
        test = next((name for name in ("test", "validation", "val") if (folder / name).is_dir()), None)
        source = image_folder(
            root=str(folder), val=None, test=test, pretext=None, test_fraction=test_fraction, broken=broken
        )
    else:
        name, path = (None, str(folder)) if folder.is_dir() else (NAME, None)
        source = huggingface_set(root=str(cache), name=name, path=path, val=None, test="validation", broken=broken)
    source = replace(source, name="crop14_balance")
    check_published(source, folder, published, HOW)
    return source
