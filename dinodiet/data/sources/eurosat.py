"""EuroSAT (Helber et al. 2019, arXiv:1709.00029), RGB, with the splits of Neumann et al. (2019, arXiv:1911.06721)."""

from __future__ import annotations

from pathlib import Path

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

HUB = "https://huggingface.co/datasets/torchgeo/eurosat/resolve"
LISTS = f"{HUB}/1ce6f1bfb56db63fd91b6ecc466ea67f2509774c"
PARTS = (
    Part(
        f"{HUB}/c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
        "2750",
        "c8fa014336c82ac7804f0398fcb19387",
        also=("EuroSAT_RGB",),  # of zenodo.org/records/7711810
    ),
    Part(f"{LISTS}/eurosat-train.txt", "eurosat-train.txt", "908f142e73d6acdf3f482c5e80d851b1"),
    Part(f"{LISTS}/eurosat-val.txt", "eurosat-val.txt", "95de90f2aa998f70a3b2416bfe0687b4"),
    Part(f"{LISTS}/eurosat-test.txt", "eurosat-test.txt", "7ae5ab94471417b6e315763121e67c5f"),
)


def _release(root: str) -> Release:
    return Release("eurosat", data_root(root) / "eurosat", PARTS)


@released("eurosat", _release)
def eurosat(
    *,
    root: Neutral[str],
    download: Neutral[bool] = True,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the splits of `ROOT/eurosat/`: `2750/<class>/<class>_<n>.jpg` and `eurosat-train.txt`, `-val`, `-test`.

    Classes are the folders in alphabetical order. A list names files alone; their class is what stands before the
    last underscore.

    Args:
        root: the folder that holds `eurosat/`.
        download: get the archive (90 MB) and the lists where they are not there.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing and cannot be downloaded, or are not the published ones.
    """
    release = _release(root)
    release.ensure(download)
    images = release.first("2750", "EuroSAT_RGB")
    classes = release.class_folders(images)
    train, val, test = (_listed(release, images, classes, split) for split in ("train", "val", "test"))
    source = RawSplits("eurosat", train, test, len(classes), val=val, classes=tuple(classes))
    return release.checked(source, published, broken)


def _listed(release: Release, images: Path, classes: list[str], split: str) -> FileImages:
    path = release.folder / f"eurosat-{split}.txt"
    names = release.lines(path)
    found = [name.rpartition("_")[0] for name in names]
    labels = release.labels(path, found, classes)
    return release.images(images, [f"{label}/{name}" for label, name in zip(found, names, strict=True)], labels)
