"""One process at a time works on a run."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator

from filelock import FileLock, Timeout

from dinodiet.errors import UserError
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import read_status, slurm_job

REQUEUE_SECONDS = 300.0
UNFINISHED = re.compile(r"\..+\.[a-z0-9_]{8}")  # as `dinodiet.io.files.atomic_file` names them
BY_OTHERS = (".status.json.",)  # the command that submits runs writes it too


class BusyError(UserError):
    """Another process works on the run."""


@contextlib.contextmanager
def exclusive(run_dir: RunDir) -> Iterator[None]:
    """Hold the run directory; two processes never work on one run.

    A requeued SLURM job waits for the process of its earlier start to end, which may outlive its node's connection.

    Raises:
        BusyError: another process holds it.
        OSError: it cannot be made or locked.
    """
    run_dir.path.mkdir(parents=True, exist_ok=True)
    owner = read_status(run_dir) or {}
    requeued = slurm_job() is not None and owner.get("slurm_job") == slurm_job()
    lock = FileLock(run_dir.lock, timeout=REQUEUE_SECONDS if requeued else 0)
    try:
        lock.acquire()
    except NotImplementedError as error:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(run_dir.lock)) from error
    except Timeout as error:
        owner = read_status(run_dir) or {}
        where = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"
        raise BusyError(f"{run_dir.path.name}: {where} is working on this run; wait for it or stop it first") from error
    try:
        _remove_unfinished(run_dir)
        yield
    finally:
        lock.release()


def _remove_unfinished(run_dir: RunDir) -> None:
    """Remove what a process was killed in the middle of writing: it may be as large as a checkpoint."""
    for path in run_dir.path.rglob(".*"):
        if UNFINISHED.fullmatch(path.name) and not path.name.startswith(BY_OTHERS):
            with contextlib.suppress(OSError):
                path.unlink()
