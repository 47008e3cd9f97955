"""Files that many processes use at once: one process writes, the others wait and read."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from filelock import FileLock, Timeout

Content = TypeVar("Content")
ABANDONED_SECONDS = 3600.0  # a writer adds to its file more often

log = logging.getLogger(__name__)


@contextlib.contextmanager
def exclusive_writer(
    path: Path, *, wait: bool = True, on_wait: Callable[[], object] = lambda: None, lock: Path | None = None
) -> Iterator[None]:
    """Be the one process that writes a file or folder; look again whether the work is still to be done.

    What writers that were killed left of a file (`.NAME.*`, see `atomic_file`) is removed.

    Args:
        path: what is written; its folder is made.
        wait: until another process has finished; false: raise `Timeout`.
        on_wait: is called once before waiting.
        lock: the file of the lock; None: `path` with the suffix `.lock`.

    Raises:
        Timeout: another process writes, and `wait` is false.
        OSError: the folder cannot be written, or its file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_file = FileLock(lock or path.with_suffix(".lock"))
    try:
        try:
            lock_file.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise
            on_wait()
            lock_file.acquire()
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, f"no locks on the file system of {path.parent}: {error}") from error
    try:
        _remove_leftovers(path)
        yield
    finally:
        lock_file.release()


def is_locked(path: Path) -> bool:
    """Return whether another process holds the lock of this file; nothing is written, and a missing file is free."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _remove_leftovers(path: Path) -> None:
    """Remove unfinished files that nobody has written to for long: on some file systems locks fail silently."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        with contextlib.suppress(OSError):
            if left.suffix != ".lock" and left.is_file() and left.stat().st_mtime < time.time() - ABANDONED_SECONDS:
                left.unlink()


def read_or_compute(
    path: Path, read: Callable[[], Content | None], compute: Callable[[], Content], write: Callable[[Content], object]
) -> Content:
    """Return what a file of a cache holds; where it holds nothing, one process computes and writes it, others wait.

    A folder that cannot be written costs the keeping, not the result.

    Args:
        path: the file.
        read: returns its content; None where it is missing or broken.
        compute: returns the content anew.
        write: puts it into the file.
    """
    if (found := read()) is not None:
        return found
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive_writer(path))
        except OSError as error:
            _not_kept(path, error)
            return compute()
        if (found := read()) is not None:  # another process was first
            return found
        content = compute()
        try:
            write(content)
        except OSError as error:
            _not_kept(path, error)
        return content


def _not_kept(path: Path, error: OSError) -> None:
    log.warning("%s are not cached in %s: %s", path.parent.name, path.parent, error)
