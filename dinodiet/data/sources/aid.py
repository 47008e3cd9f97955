"""AID (Xia et al. 2017, arXiv:1608.05167): aerial images of 30 kinds of scenes; got by hand, and split 80/10/10."""

from __future__ import annotations

from dinodiet.config.signature import Neutral
from dinodiet.data.dataset import RawSplits
from dinodiet.data.sources.broken import Broken
from dinodiet.data.sources.carved import carved, carved_counts
from dinodiet.data.sources.folder import labelled
from dinodiet.data.sources.release import Part, Release, released
from dinodiet.io.scratch import data_root

PARTS = (Part("AID.zip", "AID", also=("data",)),)
HINT = (
    "it is behind the link of https://captain-whu.github.io/AID (OneDrive), and its class folders are also in data/ of "
    "huggingface.co/datasets/blanchon/AID"
)


def _release(root: str) -> Release:
    return Release("aid", data_root(root) / "aid", PARTS, HINT, online=False)


@released("aid", _release, carved_counts)
def aid(
    *, root: Neutral[str], broken: Broken = "refuse", published: Neutral[dict[str, int] | None] = None
) -> RawSplits:
    """Return the images of `ROOT/aid/AID/<class>/`, or `ROOT/aid/data/<class>/`, as `carved` splits them.

    Classes are the folders in alphabetical order.

    Args:
        root: the folder that holds `aid/`.
        broken: what is done about images that cannot be decoded, see `handle_broken`.
        published: counts to hold the set against, see `check_published`.

    Raises:
        UserError: files are missing, or are not the published ones.
    """
    release = _release(root)
    release.ensure(False)
    folder = release.first("AID", "data")
    classes = release.class_folders(folder)
    return carved(release, labelled(folder, classes), classes, published, broken)
