"""Oxford Flowers-102 (Nilsback and Zisserman 2008): 102 species, official train, val and test splits."""

from __future__ import annotations

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.flowers102_names import NAMES
from dinodiet.data.sources.mat_lists import read_lists, whole_numbers
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102"
PARTS = (
    Part(f"{URL}/102flowers.tgz", "jpg", "52808999861908f626f3c1f4e79d11fa"),
    Part(f"{URL}/imagelabels.mat", "imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"),
    Part(f"{URL}/setid.mat", "setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"),
)
SETS = ("trnid", "valid", "tstid")  # variables of setid.mat: train, val, test


def _release(root: str) -> Release:
    return Release("flowers102", data_root(root) / "flowers-102", PARTS)


@released("flowers102", _release)
def flowers102(
    *,
    root: Neutral[str],
    download: Neutral[bool] = True,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the official splits of `ROOT/flowers-102/`: `jpg/image_<n>.jpg`, `imagelabels.mat` and `setid.mat`.

    Args:
        root: the folder that holds `flowers-102/`.
        download: get the archive (0.3 GB) and the lists where they are not there.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing and cannot be downloaded, or are not the published ones.
    """
    release = _release(root)
    release.ensure(download)
    labels = _labels(release)
    path = release.folder / "setid.mat"
    with release.reading(path):
        found = read_lists(path, *SETS)
        sets = [whole_numbers(found[name]) for name in SETS]
        if wrong := [number for numbers in sets for number in numbers if not 1 <= number <= len(labels)]:
            raise ValueError(f"image {wrong[0]} of {len(labels)}")
    train, val, test = (_images(release, numbers, labels) for numbers in sets)
    names = NAMES[: max(labels) + 1]
    source = RawSplits("flowers102", train, test, len(names), val=val, classes=names)
    return release.checked(source, published, broken)


def _labels(release: Release) -> list[int]:
    """Return the classes of all images, from 0."""
    path = release.folder / "imagelabels.mat"
    with release.reading(path):
        labels = [number - 1 for number in whole_numbers(read_lists(path, "labels")["labels"])]
        if wrong := [number for number in labels if not 0 <= number < len(NAMES)]:
            raise ValueError(f"class {wrong[0] + 1} of {len(NAMES)}")
    return labels


def _images(release: Release, numbers: list[int], labels: list[int]) -> FileImages:
    files = [f"image_{number:05d}.jpg" for number in numbers]
    return release.images(release.folder / "jpg", files, [labels[number - 1] for number in numbers])
