"""Where runs lie: the run directories below some paths, by study."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from dinodiet.errors import UserError, printable

DEEPEST = 4  # folders below a path in which runs are looked for


def locate(paths: Iterable[Path | str], *, links: bool = True) -> tuple[dict[Path, list[str]], dict[Path, list[str]]]:
    """Return the run directories of the studies below the paths, and those that are paths themselves, by study.

    With `links`, those that links lead to are among them.

    Raises:
        UserError: as `read`.
    """
    whole: dict[Path, list[str]] = {}
    single: dict[Path, list[str]] = {}
    for path in dict.fromkeys(Path(path) for path in paths):
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        if is_run(str(path)):
            single.setdefault(path.parent, []).append(path.name)
        elif below := dict(walk(path, links=links)):
            whole |= below
        else:
            raise UserError(
                f"{path}: no runs there; give a study (outputs/<name>), a run directory or a folder of them"
            )
    if not whole and not single:
        raise UserError("paths: none given; give a study (outputs/<name>), a run directory or a folder of them")
    return whole, single


def study_labels(studies: Iterable[Path]) -> dict[Path, str]:
    """Return the names of studies: the folder's, or the whole path where two folders have one name."""
    places = {study: study.resolve() for study in studies}
    names = {study: printable(place.name) for study, place in places.items()}
    taken = Counter(printable(place.name) for place in set(places.values()))
    return {study: name if taken[name] == 1 else printable(str(study)) for study, name in names.items()}


def walk(path: Path, depth: int = DEEPEST, *, links: bool = True) -> Iterator[tuple[Path, list[str]]]:
    """Yield the studies below a folder, itself included, with the names of their run directories; see `locate`.

    Links come after folders.
    """
    runs: list[tuple[bool, str]] = []
    others: list[tuple[bool, str]] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=links):
                (runs if is_run(entry.path) else others).append((entry.is_symlink(), entry.name))
    if runs or (path / ".sweep" / "grid.json").exists():
        yield path, [name for _, name in sorted(runs)]
    if depth:
        for _, name in sorted(others):
            yield from walk(path / name, depth - 1, links=links)


def is_run(path: str) -> bool:
    """Return whether a folder is a run directory: it has a status, or results."""
    return any(os.path.exists(f"{path}/{name}") for name in ("results.json", "status.json"))  # noqa: PTH110 - speed
