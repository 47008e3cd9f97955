"""Files that may go: they have the names that dinodiet gives to what can be had again, and are no links."""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from dinodiet.io.locks import ABANDONED_SECONDS

WRITTEN = "json|jsonl|yaml|pt|safetensors|bin|pixels|npz|sha256|csv|md|tex|txt|html|png|pdf|svg|parquet"
# What a writer leaves that was killed; see `atomic_file`.
UNFINISHED_FILE = re.compile(rf"\.[^/]+\.(?:{WRITTEN})\.[a-z0-9_]{{8}}")
KEY = "[0-9a-f]{32}"
# Folders of a cache, with the names below them of the files that dinodiet writes there, and of their locks.
CACHES = {
    "embeddings": re.compile(rf"{KEY}\.(?:safetensors|lock)"),
    "scores": re.compile(rf"{KEY}\.(?:json|lock)"),
    "decoded": re.compile(rf"{KEY}\.(?:pixels|lock)"),
    "statistics": re.compile(rf"{KEY}\.(?:json|lock)"),
    "shared": re.compile(rf"{KEY}\.(?:json|lock)"),
    "reports": re.compile(
        rf"{KEY}(?:_artefacts)?\.(?:json|lock)|{KEY}_artefacts/(?:trainings\.csv|lr[\d.e+-]+_seed\d+\.jsonl)"
    ),
    "tokens": re.compile(rf"{KEY}(?:_once)?\.(?:bin|lock)"),
    "trunks": re.compile(rf"{KEY}_view\d+\.(?:bin|lock)"),
}


def is_cached(file: Path, folder: Path) -> bool:
    """Return whether a file below a folder of a cache is one that dinodiet wrote there, or its idle lock."""
    if not CACHES[folder.name].fullmatch(file.relative_to(folder).as_posix()) or file.is_symlink():
        return False
    return is_lock(file) if file.suffix == ".lock" else True


def is_lock(file: Path) -> bool:
    """Return whether a file is a lock of ours: an empty one. `poetry.lock` is none."""
    try:
        found = file.lstat()
    except OSError:  # gone meanwhile
        return False
    return stat.S_ISREG(found.st_mode) and not found.st_size


def in_use(folder: Path) -> bool:
    """Return whether a process holds a lock that lies in a folder, or is it."""
    return any(_held(file) for file in files_below(folder) if file.suffix == ".lock")


def _held(lock: Path) -> bool:
    """Return whether a process holds a lock; where it cannot be known, it is. Some versions empty what they ask."""
    if not is_lock(lock):
        return False
    try:
        with FileLock(lock, timeout=0):
            return False
    except (Timeout, OSError, NotImplementedError):
        return True


def files_below(path: Path) -> Iterator[Path]:
    """Yield a file, or all files below a folder; a link is a file, whatever it leads to."""
    if path.is_symlink() or path.is_file():
        yield path
        return
    for folder, folders, names in os.walk(path):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        yield from (Path(folder) / name for name in sorted([*names, *links]))


def size_of(file: Path) -> int:
    """Return the bytes of a file, of a link those of the link."""
    try:
        return file.lstat().st_size
    except OSError:  # gone meanwhile
        return 0


def is_abandoned(file: Path) -> bool:
    """Return whether this is an unfinished file that nobody has written to for long."""
    try:
        found = file.lstat() if UNFINISHED_FILE.fullmatch(file.name) else None
        return found is not None and stat.S_ISREG(found.st_mode) and found.st_mtime < time.time() - ABANDONED_SECONDS
    except OSError:
        return False
