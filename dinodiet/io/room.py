"""Room on a disk, looked at before much is written. Imports no torch."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

from dinodiet.io.units import byte_size


def check_room(folder: Path, needed: int, spare: int = 0) -> None:
    """Refuse to write `needed` bytes to a folder, which may not exist yet, where fewer than `spare` would be left.

    Raises:
        OSError: there is no room; the message says how much is needed and how much is free.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if needed + spare > free:
        raise OSError(errno.ENOSPC, f"{byte_size(needed)} to write to {folder}, {byte_size(free)} free")
