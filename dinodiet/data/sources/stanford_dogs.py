"""Stanford Dogs (Khosla et al. 2011): 120 breeds out of ImageNet, official train and test splits."""

from __future__ import annotations

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.mat_lists import read_lists, texts, whole_numbers
from dinodiet.data.sources.numbered import Listed, numbered_splits
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

URL = "http://vision.stanford.edu/aditya86/ImageNetDogs"
PARTS = (
    Part(f"{URL}/images.tar", "Images"),
    Part(f"{URL}/lists.tar", "lists", also=("train_list.mat",), loose=True),
)


def _release(root: str) -> Release:
    return Release("stanford_dogs", data_root(root) / "stanford_dogs", PARTS)


@released("stanford_dogs", _release)
def stanford_dogs(
    *,
    root: Neutral[str],
    download: Neutral[bool] = True,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the official splits of `ROOT/stanford_dogs/`: `Images/<class>/`, `lists/train_list.mat`, `test_list.mat`.

    The lists may also lie beside `Images/`. They hold `file_list` (texts) and `labels` (from 1).

    Args:
        root: the folder that holds `stanford_dogs/`.
        download: get both archives (0.8 GB) where they are not there.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing and cannot be downloaded, or are not the published ones.
    """
    release = _release(root)
    release.ensure(download)
    lists = [_listed(release, f"{split}_list.mat") for split in ("train", "test")]
    (train, test), classes = numbered_splits(release, release.folder / "Images", lists)
    names = tuple(folder.partition("-")[2] or folder for folder in classes)
    source = RawSplits("stanford_dogs", train, test, len(classes), classes=names)
    return release.checked(source, published, broken)


def _listed(release: Release, file: str) -> Listed:
    path = release.first(f"lists/{file}", file)
    with release.reading(path):
        found = read_lists(path, "file_list", "labels")
        files, numbers = texts(found["file_list"]), whole_numbers(found["labels"])
        if len(files) != len(numbers):
            raise ValueError(f"{len(files)} files and {len(numbers)} labels")
    return Listed(path, files, numbers, [name.partition("/")[0] for name in files])
