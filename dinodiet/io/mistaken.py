"""What lies in the place of a file that was meant: a web page, a pointer of git-lfs, nothing. Imports no torch."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dinodiet.errors import one_line
from dinodiet.io.limits import raise_limit

NO_FILE = "no file, but a pipe, socket or device"
_START = 1024  # bytes looked at
_POINTER = b"version https://git-lfs"
_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")


def page_or_pointer(start: bytes) -> str | None:
    """Return what a file is that begins with these bytes, with what to do; None: neither."""
    if start.startswith(_POINTER):
        return "a pointer of git-lfs, not the file itself; fetch that with: git lfs pull"
    if start.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(_PAGE):
        return "a web page, not the file itself; download that (its link may need a login)"
    return None


def why_broken(path: str | Path, error: Exception) -> str:
    """Return why a reader could not make sense of a file, by what lies there or by the reader's error.

    Raises:
        MachineLimit, MemoryError: it is no fault of the file, see `raise_limit`.
    """
    raise_limit(error, path)
    return why_unreadable(path) or one_line(error)


def is_no_file(path: str | Path) -> bool:
    """Return whether a pipe, socket or device is there: to open it may wait for ever.

    Raises:
        MachineLimit: the machine cannot say, see `raise_limit`.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except OSError as error:
        raise_limit(error, path)
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def why_unreadable(path: str | Path) -> str | None:
    """Return why no content can be read from a file; None: it may be.

    Raises:
        MachineLimit: it is no fault of the file, see `raise_limit`.
    """
    try:
        found = os.stat(path)  # noqa: PTH116
        if stat.S_ISDIR(found.st_mode):
            return "a folder"
        if not stat.S_ISREG(found.st_mode):
            return NO_FILE
        if not found.st_size:
            return "empty"
        with Path(path).open("rb") as file:
            return page_or_pointer(file.read(_START))
    except FileNotFoundError:
        return f"a link to {Path(path).readlink()}, which is not there" if Path(path).is_symlink() else "no such file"
    except OSError as error:
        raise_limit(error, path)
        return error.strerror or type(error).__name__
