"""Files that are written whole or not at all, and JSON in them. Imports no torch."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file so that readers, and a crash at any moment, see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
