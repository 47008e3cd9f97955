"""What lies in the place of a file that was meant: a web page, a pointer of git-lfs, another format, nothing."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from dinodiet.errors import one_line
from dinodiet.io.limits import raise_limit

NO_FILE = "no file, but a pipe, socket or device"
_START = 1024  # bytes looked at
_POINTER = b"version https://git-lfs"
_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--", b"<svg")
_REFUSAL = re.compile(rb"(<\?xml[^>]*>\s*)?<Error\b[^>]*>\s*<Code>(?P<code>\w{1,60})<")  # of S3, Azure and Google
_DRAWING = re.compile(rb"(?:(?!<html|<!doctype html)[\s\S])*?<svg[\s>]", re.IGNORECASE)
_PNM = re.compile(rb"P[1-7]\s")
_SPACE, _SHOWN = 40, 60  # bytes around a text, and of a sign that is cut in two; signs that are told of it
_STILL = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
_PHOTOS = "a HEIC or AVIF photo; convert it to JPEG or PNG"
_ARCHIVE = "archive; unpack it first"
_FORMATS = (
    (0, b"\x1f\x8b", f"a gzip {_ARCHIVE}"),
    (0, b"PK\x03\x04", f"a zip {_ARCHIVE}"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z {_ARCHIVE}"),
    (0, b"\xfd7zXZ", f"an xz {_ARCHIVE}"),
    (0, b"BZh", f"a bzip2 {_ARCHIVE}"),
    (0, b"\x28\xb5\x2f\xfd", f"a zstd {_ARCHIVE}"),
    (0, b"Rar!", f"a RAR {_ARCHIVE}"),
    (257, b"ustar", f"a tar {_ARCHIVE}"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (0, b"\x00\x00\x01\xba", "a video"),
    (0, b"\x00\x00\x01\xb3", "a video"),
    (0, b"FLV", "a video"),
    (0, b"OggS", "a sound or video"),
    (0, b"ID3", "a sound"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"\x89HDF\r\n", "an HDF5 file"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"ARROW1", "an Arrow table"),
    (0, b"SQLite", "a database"),
    (128, b"DICM", "a DICOM image; convert it to PNG"),
    (0, b"\xd0\xcf\x11\xe0", "a document of an office program"),
    (0, b"\x7fELF", "a program"),
    (0, b"\x80\x02", "a pickle of Python"),
    (0, b"\x80\x04", "a pickle of Python"),
    (0, b"\x80\x05", "a pickle of Python"),
)


def page_or_pointer(start: bytes) -> str | None:
    """Return what a file is that begins with these bytes and stands for another, with what to do; None: neither."""
    start = start.lstrip(b"\xef\xbb\xbf \r\n\t")
    if start.startswith(_POINTER):
        return "a pointer of git-lfs, not the file itself; fetch that with: git lfs pull"
    if (found := _REFUSAL.match(start)) is not None:
        code = found["code"].decode("ascii")
        return f"a storage server's error {code}, not the file itself; download that (its link may need a login)"
    if start.lower().startswith(_PAGE):
        if _DRAWING.match(start):
            return "an SVG drawing; convert it to PNG"
        return "a web page, not the file itself; download that (its link may need a login)"
    return None


def other_format(start: bytes) -> str | None:
    """Return what a file is that begins with these bytes and is neither image nor weights; None: it is not known."""
    if start[4:8] == b"ftyp":
        return _PHOTOS if start[8:12] in _STILL else "a video"
    if start.startswith(b"RIFF") and start[8:12] != b"WEBP":
        return "a sound" if start[8:12] == b"WAVE" else "a video"
    for place, magic, what in _FORMATS:
        if start.startswith(magic, place):
            return what
    return _text(start)


def _text(start: bytes) -> str | None:
    """Return what text says; None: it is none, or an image of numbers (PGM)."""
    text = start[:_START].decode("utf-8", "ignore").lstrip("\ufeff").strip()
    lost = len(start[:_START]) - len(text.encode())
    if (
        not text
        or _PNM.match(start)
        or lost > _SPACE
        or not all(sign.isprintable() or sign in "\t\r\n" for sign in text)
    ):
        return None
    kind = "JSON" if text[0] in "{[" else "text"
    shown = " ".join(text.split())[:_SHOWN]
    return f"{kind} that begins {shown!r}"


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


def why_no_image(path: str | Path) -> str | None:
    """Return what a file is that holds no image; None: it may. Raises as `why_unreadable`."""
    return why_unreadable(path, other_format)


def why_unreadable(path: str | Path, other: Callable[[bytes], str | None] = lambda _: None) -> str | None:
    """Return why no content can be read from a file; None: it may be.

    Args:
        path: the file.
        other: says what else it is by its first bytes.

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
            start = file.read(_START)
            return page_or_pointer(start) or other(start)
    except FileNotFoundError:
        return f"a link to {Path(path).readlink()}, which is not there" if Path(path).is_symlink() else "no such file"
    except OSError as error:
        raise_limit(error, path)
        return error.strerror or type(error).__name__
