"""Oxford-IIIT Pets (Parkhi et al. 2012): 37 breeds of cats and dogs, official trainval and test splits."""

from __future__ import annotations

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.numbered import Listed, numbered_splits
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

URL = "https://www.robots.ox.ac.uk/~vgg/data/pets/data"
PARTS = (
    Part(f"{URL}/images.tar.gz", "images", "5c4f3ee8e5d25df40f4fd59a7f44e54c"),
    Part(f"{URL}/annotations.tar.gz", "annotations", "95a8c909bbe2e81eed6a22bccdf3f68f"),
)


def _release(root: str) -> Release:
    return Release("oxford_pets", data_root(root) / "oxford-iiit-pet", PARTS)


@released("oxford_pets", _release)
def oxford_pets(
    *,
    root: Neutral[str],
    download: Neutral[bool] = True,
    broken: Broken = "refuse",
    published: Neutral[dict[str, int] | None] = None,
) -> RawSplits:
    """Return the official splits of `ROOT/oxford-iiit-pet/`: `images/*.jpg`, `annotations/trainval.txt` and `test.txt`.

    A line of a list is `<breed>_<n> <class> <species> <number of the breed within its species>`; classes count from 1.

    Args:
        root: the folder that holds `oxford-iiit-pet/`.
        download: get both archives (0.8 GB) where they are not there.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing and cannot be downloaded, or are not the published ones.
    """
    release = _release(root)
    release.ensure(download)
    lists = [_listed(release, split) for split in ("trainval", "test")]
    (train, test), classes = numbered_splits(release, release.folder / "images", lists)
    source = RawSplits("oxford_pets", train, test, len(classes), classes=classes)
    return release.checked(source, published, broken)


def _listed(release: Release, split: str) -> Listed:
    path = release.folder / "annotations" / f"{split}.txt"
    rows = release.rows(path, 4)
    names = [row[0].rpartition("_")[0] for row in rows]
    return Listed(path, [f"{row[0]}.jpg" for row in rows], release.numbers(path, [row[1] for row in rows]), names)
