"""Flavia (Wu et al. 2007, arXiv:0707.4289): scanned leaves of 32 plants; got by hand, and split 80/10/10."""

from __future__ import annotations

from pathlib import Path

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.carved import carved, carved_counts
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

SPECIES = (  # with the first and last number of their images, as flavia.sourceforge.net lists them
    ("pubescent bamboo", 1001, 1059),
    ("Chinese horse chestnut", 1060, 1122),
    ("Chinese redbud", 1123, 1194),
    ("true indigo", 1195, 1267),
    ("Japanese maple", 1268, 1323),
    ("Nanmu", 1324, 1385),
    ("castor aralia", 1386, 1437),
    ("goldenrain tree", 1438, 1496),
    ("Chinese cinnamon", 1497, 1551),
    ("Anhui barberry", 1552, 1616),
    ("big-fruited holly", 2001, 2050),
    ("Japanese cheesewood", 2051, 2113),
    ("wintersweet", 2114, 2165),
    ("camphortree", 2166, 2230),
    ("Japan arrowwood", 2231, 2290),
    ("sweet osmanthus", 2291, 2346),
    ("deodar", 2347, 2423),
    ("maidenhair tree", 2424, 2485),
    ("crape myrtle", 2486, 2546),
    ("oleander", 2547, 2612),
    ("yew plum pine", 2616, 2675),
    ("Japanese flowering cherry", 3001, 3055),
    ("glossy privet", 3056, 3110),
    ("Chinese toon", 3111, 3175),
    ("peach", 3176, 3229),
    ("Ford woodlotus", 3230, 3281),
    ("trident maple", 3282, 3334),
    ("Beale's barberry", 3335, 3389),
    ("southern magnolia", 3390, 3446),
    ("Canadian poplar", 3447, 3510),
    ("Chinese tulip tree", 3511, 3563),
    ("tangerine", 3566, 3621),
)
PARTS = (Part("Leaves.tar.bz2", "Leaves"),)
HINT = "the archive is at https://sourceforge.net/projects/flavia/files (Leaf Image Dataset), 1 GB"


def _release(root: str) -> Release:
    return Release("flavia", data_root(root) / "flavia", PARTS, HINT, online=False)


@released("flavia", _release, carved_counts)
def flavia(
    *, root: Neutral[str], broken: Broken = "refuse", published: Neutral[dict[str, int] | None] = None
) -> RawSplits:
    """Return the images `ROOT/flavia/Leaves/<number>.jpg` as `carved` splits them.

    The number of an image says its species, as the set's page lists them; the classes are in the order of the numbers.

    Args:
        root: the folder that holds `flavia/`.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing, or are not the published ones.
    """
    release = _release(root)
    release.ensure(False)
    folder = release.folder / "Leaves"
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".jpg")
    labels = [_label(release, path) for path in paths]
    if not paths:
        raise release.fault(folder, "it holds no .jpg files")
    images = release.images(folder, [path.name for path in paths], labels)
    return carved(release, images, [name for name, _, _ in SPECIES], published, broken)


def _label(release: Release, path: Path) -> int:
    (number,) = release.numbers(path, [path.stem])
    found = [label for label, (_, first, last) in enumerate(SPECIES) if first <= number <= last]
    if not found:
        raise release.fault(path, f"no species has number {number}")
    return found[0]
