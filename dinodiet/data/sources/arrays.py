"""Arrays in .npz files from elsewhere: what their headers declare is held against the file before memory is taken."""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from numpy.lib import format as npy
from numpy.typing import NDArray

from dinodiet.io.unpack import expansion_fault

# What is raised for a file that is cut short, no archive, or holds something else than plain arrays.
BROKEN = (EOFError, LookupError, ValueError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_array(path: Path, key: str) -> NDArray[Any]:
    """Return an array of a .npz file.

    Raises:
        OSError: the file cannot be read.
        One of BROKEN: there is no such array, or `check_array` refuses it.
    """
    with zipfile.ZipFile(path) as archive:
        check_array(archive, key)
        with archive.open(f"{key}.npy") as stream:
            array: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
            return array


def check_array(archive: zipfile.ZipFile, key: str) -> int:
    """Return the bytes of an array's .npy file, without reading its numbers.

    Raises:
        ValueError: it holds objects, which would run code, declares another size than it has, or is absurdly large.
        One of BROKEN: there is no such array.
    """
    entry = archive.getinfo(f"{key}.npy")
    if told := expansion_fault(entry.file_size, entry.compress_size):
        raise ValueError(f"{key} {told}")
    with archive.open(entry) as stream:
        declared = _declared(stream)
    if declared != entry.file_size:
        raise ValueError(f"{key} declares {declared:,} bytes and has {entry.file_size:,}")
    return entry.file_size


def _declared(stream: IO[bytes]) -> int:
    version = npy.read_magic(stream)
    if version not in HEADERS:
        raise ValueError(f"version {version} of .npy is for arrays of records")
    shape, _, dtype = HEADERS[version](stream)
    if dtype.hasobject:
        raise ValueError("it holds objects of Python, which are not loaded: that runs code")
    if min(shape, default=0) < 0:
        raise ValueError(f"shape {shape}")
    return stream.tell() + math.prod(shape) * dtype.itemsize
