"""What tells whether files have changed, without reading them. Imports no pandas."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dinodiet.config.places import PACKAGE
from dinodiet.store.grid import grid_path, jobs_path

COARSEST = 2 * 10**9  # nanoseconds between two times that a file system can tell apart, at worst (FAT)
CODE = ("results", "store", "config", "io")  # folders of the package that tables are made by
Mark = tuple[int, int, int, int]


@dataclass(frozen=True)
class State:
    """The files that a table depends on.

    Attributes:
        digest: differs where one of them was added, removed or written.
        newest: the latest modification among them, in nanoseconds since the epoch.
        unfinished: run directories without results.
    """

    digest: str
    newest: int
    unfinished: tuple[Path, ...]


def mark_of(found: os.stat_result) -> Mark:
    """Return what changes when a file is written: time of modification, time of change (ns), size, and inode."""
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino


def is_settled(changed: int, written: int) -> bool:
    """Return whether a file that was read had its time long enough before its copy was written (both in ns).

    One that is written again within what the file system tells apart may keep its time: such copies are not believed.
    """
    return changed + COARSEST <= written


def state_of_studies(studies: Iterable[tuple[Path, list[str]]], others: Iterable[Path] = ()) -> State:
    """Return the state of studies, as (folder, names of run directories), and of further files."""
    told, seen, unfinished = hashlib.blake2b(digest_size=16), [0], list[Path]()
    for study, names in studies:
        lines = [f"{study}", *(_line(path, seen) for path in (grid_path(study), jobs_path(study)))]
        for name in names:
            try:
                found = os.stat(f"{study}/{name}/results.json")  # noqa: PTH116 - speed: there may be ten thousand
            except OSError:
                unfinished.append(study / name)
                lines += [name, *(_line(study / name / file, seen) for file in ("status.json", "log.txt"))]
                continue
            seen.append(found.st_mtime_ns)
            lines.append(f"{name} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_size} {found.st_ino}")
        told.update("\n".join(lines).encode(errors="surrogateescape"))
    for path in others:
        told.update(_line(path, seen).encode(errors="surrogateescape"))
    return State(told.hexdigest(), max(seen), tuple(unfinished))


def state_of_code() -> str:
    """Return what changes where the code that makes tables does."""
    return " ".join(_line(Path(path), []) for folder in CODE for path in sorted(_modules(f"{PACKAGE}/{folder}")))


def _modules(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        yield from (entry.path for entry in entries if entry.name.endswith(".py"))


def _line(path: Path, seen: list[int]) -> str:
    """Return what changes where a file does, and note its time of modification."""
    try:
        mark = mark_of(path.stat())
    except OSError:
        return f"{path} -"
    seen.append(mark[0])
    return f"{path} {mark}"
