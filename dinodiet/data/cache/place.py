"""The folder of what runs share, for what is computed while a data set is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

_folder: ContextVar[Path | None] = ContextVar("_folder", default=None)


@contextlib.contextmanager
def kept_in(folder: Path | None) -> Iterator[None]:
    """Keep what is computed meanwhile in a folder, which need not be there; None: nothing is kept."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def cache_folder() -> Path | None:
    """Return the folder of what is kept; None: nothing is."""
    return _folder.get()
