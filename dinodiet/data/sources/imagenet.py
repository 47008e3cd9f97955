"""ImageNet-1k (ILSVRC 2012) as a folder tree: 1,000 classes; the official validation images serve as test."""

from __future__ import annotations

from pathlib import Path

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.broken import Broken, handle_broken
from dinodiet.data.sources.class_names import class_names
from dinodiet.data.sources.download import local_assets
from dinodiet.data.sources.folder import class_folders, labelled
from dinodiet.data.sources.planned import counted
from dinodiet.data.sources.published import check_published, require
from dinodiet.data.sources.walk import subfolders
from dinodiet.errors import UserError
from dinodiet.io.assets import Asset, needs, planned
from dinodiet.io.scratch import data_root
from dinodiet.types import Statistics

HOW = (
    "get ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and the development kit from https://image-net.org "
    "and unpack them with torchvision.datasets.ImageNet"
)


PIXELS = Statistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _assets(*, root: str) -> list[Asset]:
    return local_assets(data_root(root), "imagenet", HOW)


def _counts(*, published: dict[str, int] | None) -> RawSplits:
    return counted("imagenet", published)


@needs(_assets)
@planned(counts=_counts)
def imagenet(
    *, root: Neutral[str], broken: Broken = "refuse", published: Neutral[dict[str, int] | None] = None
) -> RawSplits:
    """Return `ROOT/train/<wnid>/*.JPEG` as train and `ROOT/val/<wnid>/*.JPEG` as test.

    The labels of the official test images are secret, so test is the official validation split, and a validation
    split is held out of train. Classes are the wnids in alphabetical order, as everywhere.

    Args:
        root: holds `train/` and `val/`, or `ILSVRC/Data/CLS-LOC/` with them.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing, or are not the published ones.
    """
    folder = data_root(root)
    deep = folder / "ILSVRC" / "Data" / "CLS-LOC"
    folder = deep if deep.is_dir() else folder
    places = {split: require(folder / split, "imagenet", HOW) for split in ("train", "val")}
    classes = class_folders(places["train"])
    train, test = labelled(places["train"], classes), labelled(_sorted_into_classes(places["val"]), classes)
    source = RawSplits("imagenet", train, test, len(classes), classes=class_names(classes), statistics=PIXELS)
    check_published(source, folder, published, HOW)
    return handle_broken(source, broken, folder)


def _sorted_into_classes(val: Path) -> Path:
    if not subfolders(val):
        raise UserError(
            f"imagenet: {val} holds no class folders; its images have to be sorted into {val}/<wnid>/, {HOW}"
        )
    return val
