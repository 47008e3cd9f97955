"""Data files on disk: where they are looked for, and how new ones get there in one piece."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dinodiet.io.locks import exclusive_writer


def data_root(root: str) -> Path:
    """Return the folder of a dataset, with ~ expanded."""
    return Path(root).expanduser()


@contextlib.contextmanager
def scratch_folder(root: Path, name: str) -> Iterator[Path]:
    """Yield a temporary folder inside `root`, to one process at a time for each `name`.

    Files are made there and moved to their place, so that no other process sees half a file. Jobs of a sweep that
    start together wait here: look again whether the work is still to be done. Nothing is left behind, not even
    `root` where it had to be made and stayed empty.
    """
    made = [folder for folder in (root, *root.parents) if not folder.exists()]
    lock = root / f".{name}.lock"
    try:
        with exclusive_writer(root / name, lock=lock):
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=root))
            try:
                yield scratch
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    finally:
        lock.unlink(missing_ok=True)
        for folder in made:
            with contextlib.suppress(OSError):  # not empty: the files are there
                folder.rmdir()
