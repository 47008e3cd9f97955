"""NWPU-RESISC45 (Cheng et al. 2017, arXiv:1703.00121): aerial images of 45 kinds of scenes, split in two ways."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.carved import carved, carved_counts
from dinodiet.data.sources.folder import labelled
from dinodiet.data.sources.planned import counted
from dinodiet.data.sources.release import Part, Release
from dinodiet.io.assets import Asset, needs, planned
from dinodiet.io.scratch import data_root

URL = "https://huggingface.co/datasets/isaaccorley/resisc45/resolve/883edc0eee77b2c84225472f10f126e3ed83fa6e"
Split = Literal["stratified", "neumann"]
ARCHIVE = Part(
    f"{URL}/NWPU-RESISC45.zip",
    "NWPU-RESISC45",
    sha256="beeecd0b63656290ae6d65cf7763185b0c1c4c54a753ef8088d6fba3faaf1f53",
)
LISTS = {
    "train": "ecfa963be4d85eac83665f8be8634abcb4fe6f3546472cc0e87999e2cab4449b",
    "val": "08d81f642526bec240589000af7f49a47e8d071a6e7925b0f36246a78ab64342",
    "test": "e0927e80130b47317a2f18520d98382b6fc56f0d3edd3345140f7d02267c3805",
}
NEUMANN = {"train": 18900, "val": 6300, "test": 6300}


def _release(root: str, split: Split) -> Release:
    names = {part: f"resisc45-{part}.txt" for part in LISTS} if split == "neumann" else {}
    lists = (Part(f"{URL}/{name}", name, sha256=LISTS[part]) for part, name in names.items())
    return Release("resisc45", data_root(root) / "resisc45", (ARCHIVE, *lists))


def _assets(*, root: str, split: Split, download: bool) -> list[Asset]:
    return _release(root, split).assets(download)


def _counts(*, split: Split, published: dict[str, int] | None) -> RawSplits:
    if split == "neumann" and published is not None:
        return counted("resisc45", {"classes": published.get("classes", 45), **NEUMANN})
    return carved_counts("resisc45", published)


@needs(_assets)
@planned(counts=_counts)
def resisc45(
    *,
    root: Neutral[str],
    split: Split = "stratified",
    download: Neutral[bool] = True,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the splits of `ROOT/resisc45/NWPU-RESISC45/<class>/<class>_<n>.jpg`.

    Classes are the folders in alphabetical order.

    Args:
        root: the folder that holds `resisc45/`.
        split: `stratified`: 80/10/10, see `carved`; `neumann`: 60/20/20 by the lists of Neumann et al. (2019,
            arXiv:1911.06721), `resisc45-train.txt`, `-val`, `-test`, as torchgeo and timm/resisc45 have them.
        download: get the archive (0.4 GB), and the lists, where they are not there.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing and cannot be downloaded, or are not the published ones.
    """
    release = _release(root, split)
    release.ensure(download)
    folder = release.folder / "NWPU-RESISC45"
    classes = release.class_folders(folder)
    if split == "stratified":
        return carved(release, labelled(folder, classes), classes, published, broken)
    train, val, test = (_listed(release, folder, classes, part) for part in LISTS)
    source = RawSplits("resisc45", train, test, len(classes), val=val, classes=tuple(classes))
    return release.checked(source, published, broken)


def _listed(release: Release, folder: Path, classes: list[str], part: str) -> FileImages:
    path = release.folder / f"resisc45-{part}.txt"
    names = release.lines(path)
    found = [name.rpartition("_")[0] for name in names]
    labels = release.labels(path, found, classes)
    return release.images(folder, [f"{label}/{name}" for label, name in zip(found, names, strict=True)], labels)
