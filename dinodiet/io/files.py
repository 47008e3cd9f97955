"""Files that are written whole or not at all, with JSON or a table in them. Imports no torch."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from dinodiet.errors import UserError

LARGEST = 2.0**63  # whole numbers beyond fit no column of a table


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield an unfinished file `.NAME.*` that takes the place of `path` at the end, and is removed on an error.

    Readers, and a crash at any moment, see the old content or the new, never a part. The folder is made.

    Raises:
        OSError: it cannot be written; names `path`, also where a library has other words for it.
    """
    with naming(path):
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
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Raise an OSError that names a file in the place of what went wrong when it was written.

    An error of a stream names no file; torch and safetensors have words of their own for what a system refused.
    """
    try:
        yield
    except Exception as error:
        found = refused(error)
        if isinstance(error, UserError) or found is None or found.errno is None or _names_another(found, path):
            raise
        raise OSError(found.errno, os.strerror(found.errno), str(path)) from error


def _names_another(error: OSError, path: Path) -> bool:
    """Return whether an error is about another file than `path` and its unfinished one."""
    return error.filename is not None and not Path(os.fsdecode(error.filename)).name.startswith(f".{path.name}.")


def refused(error: BaseException | None) -> OSError | None:
    """Return what the system refused: the error, the one that it followed, or the one that its words tell of."""
    while error is not None and not isinstance(error, OSError):
        if code := re.search(r"\(os error (\d+)\)", str(error)):  # Rust's words
            return OSError(int(code[1]), "")
        error = error.__cause__ or error.__context__
    return error


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


def overwrite_json(path: Path, content: Any) -> None:
    """Write JSON into a file that is there, over what it holds: on a full disk that needs no room where it is as long.

    A reader at that moment may see a part. NaN is written as null.
    """
    text = (json.dumps(without_nan(content), allow_nan=False) + "\n").encode()
    with naming(path), path.open("r+b") as stream:
        stream.write(text)
        stream.truncate()


def write_text(stream: IO[bytes], text: str) -> None:
    """Write text as UTF-8."""
    stream.write(text.encode())


def write_csv(path: Path, heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV, atomically."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([heads, *rows])
    write_atomically(path, lambda out: write_text(out, stream.getvalue()))


def without_nan(content: Any) -> Any:
    """Return content with numbers that are not finite as None, and keys as text."""
    if isinstance(content, dict):
        return {str(key): without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def parse_json(text: str | bytes) -> Any:
    """Return what JSON says.

    Raises:
        ValueError: it is none, also where it is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def is_number(value: Any) -> bool:
    """Return whether a value of JSON is a finite number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < LARGEST


def is_interval(value: Any) -> bool:
    """Return whether a value of JSON is a pair of finite numbers, the smaller one first."""
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value)) and value[0] <= value[1]


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where the file is absent, half-written or something else."""
    try:
        content = parse_json(path.read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
