"""Processes of a sweep import from a copy of the code: what changes in the checkout meanwhile does not reach them."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from dinodiet.errors import UserError
from dinodiet.store.code import import_folders, take_snapshot
from dinodiet.sweep.own_modules import own_modules
from dinodiet.sweep.task import Task

MAIN = "launch.py"


class CodeCopies:
    """The copies of the code that a command uses, one a study: taken when its first runs start, and used to its end."""

    def __init__(self) -> None:
        self._taken: dict[Path, Path] = {}

    def of(self, tasks: Sequence[Task]) -> Path:
        """Return the copy for tasks of one study.

        Raises:
            UserError: it cannot be written, or was changed since.
        """
        study = tasks[0].study
        if study not in self._taken or not self._taken[study].is_dir():
            try:
                self._taken[study] = take_snapshot(study, own_modules(tasks))
            except OSError as error:
                raise UserError(f"the code cannot be copied for the runs of this sweep: {error}") from error
        return self._taken[study]


@contextlib.contextmanager
def path_for_jobs(copy: Path) -> Iterator[None]:
    """Let what is started meanwhile import from a copy, and else what this process can, also in the current folder."""
    before = os.environ.get("PYTHONPATH")
    folders = [*map(str, import_folders(copy)), str(Path.cwd()), before or ""]
    os.environ["PYTHONPATH"] = os.pathsep.join(folder for folder in folders if folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def importing_from(copy: Path) -> Iterator[None]:
    """Let processes that multiprocessing starts meanwhile import from a copy; this one goes on with what it has.

    They are handed `sys.path`, and the file of the main module, which they run.
    """
    main, path = sys.modules["__main__"], list(sys.path)
    file = getattr(main, "__file__", None)
    sys.path[:0] = map(str, import_folders(copy))
    if file is not None and Path(file).name == MAIN and (copy / MAIN).is_file():
        main.__file__ = str(copy / MAIN)
    try:
        with path_for_jobs(copy):
            yield
    finally:
        sys.path[:] = path
        if file is not None:
            main.__file__ = file
