"""Jena Flowers 30 (Seeland et al. 2017, PLoS ONE 12(2)): 30 species of flowers; got by hand, split in several ways."""

from __future__ import annotations

from typing import Literal

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.carved import carved, carved_counts
from dinodiet.data.sources.planned import counted
from dinodiet.data.sources.release import Part, Release
from dinodiet.io.assets import Asset, needs, planned
from dinodiet.io.scratch import data_root

LISTS = {"train": "trn", "val": "val", "test": "tst"}
HINT = "they are at https://doi.org/10.7910/DVN/QDHYST (Harvard Dataverse)"
Split = Literal["stratified", 1, 2, 3]


def _release(root: str, split: Split) -> Release:
    names = [] if split == "stratified" else [f"{name}{split}.txt" for name in LISTS.values()]
    parts = (Part("the images JFT_*.jpg", "jpg"), *(Part(name, name) for name in ("classlabels.txt", *names)))
    return Release("jena_flowers30", data_root(root) / "jena_flowers30", parts, HINT, online=False)


def _assets(*, root: str, split: Split) -> list[Asset]:
    return _release(root, split).assets(False)


def _counts(*, split: Split, published: dict[str, int] | None) -> RawSplits:
    return carved_counts("jena_flowers30", published) if split == "stratified" else counted("jena_flowers30", None)


@needs(_assets)
@planned(counts=_counts)
def jena_flowers30(
    *,
    root: Neutral[str],
    split: Split = "stratified",
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the images `ROOT/jena_flowers30/jpg/JFT_<n>.jpg` with the classes of `classlabels.txt`.

    The classes are the numbers from 1 on that the file gives; species are not named in it.

    Args:
        root: the folder that holds `jena_flowers30/`.
        split: `stratified`: 80/10/10, see `carved`; 1, 2 or 3: one of the three published ones, `trn1.txt`, `val1.txt`
            and `tst1.txt` with the numbers of the images.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing, or are not the published ones.
    """
    release = _release(root, split)
    release.ensure(False)
    path = release.folder / "classlabels.txt"
    rows = release.rows(path, 2, ",")
    numbers = release.numbers(path, [label.strip() for _, label in rows])
    found = {name.strip(): number for (name, _), number in zip(rows, numbers, strict=True)}
    classes = [str(number) for number in sorted(set(numbers))]
    known = {name: classes.index(str(number)) for name, number in sorted(found.items())}
    folder = release.folder / "jpg"
    if split == "stratified":
        images = release.images(folder, list(known), list(known.values()))
        return carved(release, images, classes, published, broken)
    train, val, test = (
        release.images(folder, names, [known[name] for name in names])
        for names in (_names(release, f"{prefix}{split}.txt", known) for prefix in LISTS.values())
    )
    source = RawSplits("jena_flowers30", train, test, len(classes), val=val, classes=tuple(classes))
    return release.checked(source, published, broken)


def _names(release: Release, file: str, known: dict[str, int]) -> list[str]:
    """Return the files that a list names by their numbers."""
    path = release.folder / file
    names = [f"JFT_{number:05d}.jpg" for number in release.numbers(path, release.lines(path))]
    if unknown := [name for name in names if name not in known]:
        raise release.fault(path, f"{unknown[0]} is not in classlabels.txt")
    return names
