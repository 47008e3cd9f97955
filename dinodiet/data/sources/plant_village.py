"""PlantVillage (Mohanty et al. 2016, arXiv:1604.03169): leaves of 14 crops, healthy or ill, in published splits."""

from __future__ import annotations

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

URL = "https://huggingface.co/datasets/mohanty/PlantVillage/resolve/9e97599868962bd0079b8db4b7f1efa9185fa1e7"
PARTS = (
    Part(
        f"{URL}/data.zip",
        "data",
        loose=True,
        sha256="fba30c6a7965e49be94b47a62f8aff6cfb1c35c27f475f22092b56db41745e84",
    ),
    Part(
        f"{URL}/splits/color_train.txt",
        "color_train.txt",
        sha256="c43e0205b321d1c929116f5df1842348ac1e5c4861306e081416785d3c439dbd",
    ),
    Part(
        f"{URL}/splits/color_test.txt",
        "color_test.txt",
        sha256="7a7257dcb5f9456feae6ae81248d29c28f45dc4cd41a00c13a5c5c198c5f2f8b",
    ),
)


def _release(root: str) -> Release:
    return Release("plant_village", data_root(root) / "plant_village", PARTS)


@released("plant_village", _release)
def plant_village(
    *,
    root: Neutral[str],
    download: Neutral[bool] = True,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the published splits of the colour images: `ROOT/plant_village/color_train.txt` and `color_test.txt`.

    A line of them is the path of an image below `ROOT/plant_village/data/`, such as `raw/color/<class>/<file>`. All
    images of one leaf are in one split. Classes are the folders of train in alphabetical order.

    Args:
        root: the folder that holds `plant_village/`.
        download: get the archive (2 GB, gray and segmented images too) and the lists where they are not there.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing and cannot be downloaded, or are not the published ones.
    """
    release = _release(root)
    release.ensure(download)
    lists = {split: release.folder / f"color_{split}.txt" for split in ("train", "test")}
    names = {split: release.lines(path) for split, path in lists.items()}
    found = {split: [_class(name) for name in listed] for split, listed in names.items()}
    classes = sorted(set(found["train"]))
    train, test = (
        release.images(release.folder / "data", names[split], release.labels(lists[split], found[split], classes))
        for split in ("train", "test")
    )
    source = RawSplits("plant_village", train, test, len(classes), classes=tuple(classes))
    return release.checked(source, published, broken)


def _class(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2]
