"""Lists that give every image a file, the number of its class, and the name of its class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from dinodiet.data.images import FileImages
from dinodiet.data.sources.release import Release


class Listed(NamedTuple):
    """What a list says: `path` is the list itself, and the others have one entry an image."""

    path: Path
    files: list[str]
    numbers: list[int]
    names: list[str]


def numbered_splits(
    release: Release, folder: Path, lists: Sequence[Listed]
) -> tuple[list[FileImages], tuple[str, ...]]:
    """Return the images of each list, and the names of all classes in the order of their numbers.

    Raises:
        UserError: a number has two names, a name has two numbers, or images are missing.
    """
    names: dict[int, str] = {}
    for listed in lists:
        for number, name in zip(listed.numbers, listed.names, strict=True):
            if names.setdefault(number, name) != name:
                raise release.fault(listed.path, f"class {number} is called {names[number]!r} and {name!r}")
    if len(set(names.values())) < len(names):
        raise release.fault(lists[-1].path, f"two of the {len(names)} classes have one name")
    position = {number: label for label, number in enumerate(sorted(names))}
    splits = [release.images(folder, listed.files, [position[n] for n in listed.numbers]) for listed in lists]
    return splits, tuple(names[number] for number in position)
