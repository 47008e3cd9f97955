"""Zip archives from elsewhere, opened without reading a list of members of any length. Imports no torch."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dinodiet.io.units import byte_size

MOST_LISTED = 2**28  # bytes of the list at the end: of 1.3 million images it takes 175 million


class LongListError(zipfile.BadZipFile):
    """A zip says that the list of its members takes more memory than any set of images has need of."""


@contextmanager
def opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip for reading.

    Raises:
        LongListError: the list of its members is longer than any real one.
        zipfile.BadZipFile: it is none.
    """
    with _Bounded(io.FileIO(path)) as stream, zipfile.ZipFile(stream) as archive:
        yield archive


class _Bounded(io.BufferedReader):
    """A file of which `zipfile` reads members in pieces, and the list of them at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes; raises LongListError where that is a list without measure."""
        if size is not None and size > MOST_LISTED:
            raise LongListError(f"the list of its members would take {byte_size(size)}")
        return super().read(size)
