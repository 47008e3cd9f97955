"""What a part of a run tells without being built: the files it needs, and what a dataset holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinodiet.io.declare import Factory, declares

ASSETS, LABELS, COUNTS = "assets", "labels_on_disk", "published_counts"  # facts that a factory declares


@dataclass(frozen=True)
class Asset:
    """A file or folder that a part needs.

    Attributes:
        name: what it is called; assets of the same name and place are one.
        place: where it lies or will lie; or, where there is nothing to fetch, why.
        find: returns where it is, None where it is not there.
        get: has it there, from the network where that can be done, and raises `NotOnDisk` otherwise; None: nothing
            is to be done.
    """

    name: str
    place: str
    find: Callable[[], Path | None] = lambda: None
    get: Callable[[], Any] | None = None


def needs(assets: Callable[..., list[Asset]]) -> Callable[[Factory], Factory]:
    """Mark a factory with a function that tells what it needs, from those of the factory's settings that it names."""
    return declares(**{ASSETS: assets})


def planned(
    *, labels: Callable[..., Any] | None = None, counts: Callable[..., Any] | None = None
) -> Callable[[Factory], Factory]:
    """Mark a dataset's source with what `mode=plan` calls in its place, which reads no images and fetches nothing.

    Both functions get those of the source's settings that they name. They return `RawSplits` of the true lengths whose
    images are never looked at (`dinodiet.data.sources.planned`), or raise `NotOnDisk`.

    Args:
        labels: reads the labels where the source's assets are on disk; None: the source itself is called.
        counts: returns what was published of the set, where the assets are not on disk.
    """

    return declares(**{name: fact for name, fact in ((LABELS, labels), (COUNTS, counts)) if fact is not None})


def present(path: Path) -> Path | None:
    """Return the path if something is there."""
    return path if path.exists() else None
