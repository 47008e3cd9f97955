"""Files of a cache that many processes use at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

log = logging.getLogger(__name__)


@contextlib.contextmanager
def alone_with(path: Path) -> Iterator[bool]:
    """Be the one process that makes a file of a cache; yield whether it can be written.

    A folder that cannot be written, or a file system without locks, costs the storing and not the result: it is told.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except (OSError, NotImplementedError) as error:
        not_cached(path, error)
        yield False
    else:
        with lock:
            yield True


def not_cached(path: Path, error: Exception) -> None:
    """Tell that a file could not be kept."""
    log.warning("%s are not cached in %s: %s", path.parent.name, path.parent, error)
