"""IP102 (Wu et al. 2019, CVPR): insects that damage crops, 102 classes, long-tailed, official splits; got by hand."""

from __future__ import annotations

from pathlib import Path

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

PARTS = (Part("ip102_v1.1.tar", "ip102_v1.1"), Part("classes.txt", "classes.txt", also=("ip102_v1.1/classes.txt",)))
HINT = "links are at https://github.com/xpwu95/IP102: the archive is in the folder Classification of a drive"


def _release(root: str) -> Release:
    return Release("ip102", data_root(root) / "ip102", PARTS, HINT, online=False)


@released("ip102", _release)
def ip102(
    *, root: Neutral[str], broken: Broken = "refuse", published: Neutral[dict[str, int] | None] = None
) -> RawSplits:
    """Return the official splits of `ROOT/ip102/ip102_v1.1/`: `images/*.jpg`, `train.txt`, `val.txt`, `test.txt`.

    A line of a list is a file and its class, from 0 on. `ROOT/ip102/classes.txt` numbers the names from 1 on.

    Args:
        root: the folder that holds `ip102/`.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing, or are not the published ones.
    """
    release = _release(root)
    release.ensure(False)
    classes = _classes(release, release.first("classes.txt", "ip102_v1.1/classes.txt"))
    train, val, test = (_listed(release, f"{split}.txt", len(classes)) for split in ("train", "val", "test"))
    source = RawSplits("ip102", train, test, len(classes), val=val, classes=tuple(classes))
    return release.checked(source, published, broken)


def _classes(release: Release, path: Path) -> list[str]:
    rows = release.rows(path, 2)
    if release.numbers(path, [number for number, _ in rows]) != list(range(1, len(rows) + 1)):
        raise release.fault(path, "classes are not numbered from 1 on")
    return [name.strip() for _, name in rows]


def _listed(release: Release, file: str, num_classes: int) -> FileImages:
    path = release.folder / "ip102_v1.1" / file
    rows = release.rows(path, 2)
    labels = release.numbers(path, [label for _, label in rows])
    if wrong := [label for label in labels if label >= num_classes]:
        raise release.fault(path, f"class {wrong[0]} found where 0 to {num_classes - 1} are known")
    return release.images(release.folder / "ip102_v1.1" / "images", [name for name, _ in rows], labels)
