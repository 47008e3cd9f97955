"""Files that are written whole or not at all, and JSON in them. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield an unfinished file `.NAME.*` that takes the place of `path` at the end, and is removed on an error.

    Readers, and a crash at any moment, see the old content or the new, never a part. The folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o666 & ~_umask())
        with unfinished.open("rb") as stream:
            os.fsync(stream.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file as `atomic_file` does."""
    with atomic_file(path) as unfinished, unfinished.open("wb") as stream:
        write(stream)


def _umask() -> int:
    """Return the process's umask: mkstemp makes files for the owner alone, and colleagues must read results."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. NaN is written as null: JSON has no NaN, and missing is missing."""
    text = json.dumps(without_nan(content), indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda stream: write_text(stream, text))


def write_text(stream: IO[bytes], text: str) -> None:
    """Write text as UTF-8."""
    stream.write(text.encode())


def without_nan(content: Any) -> Any:
    """Return content with numbers that are not finite as None, and keys as text."""
    if isinstance(content, dict):
        return {str(key): without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where the file is absent, half-written or something else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
