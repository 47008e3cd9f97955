"""How the tasks of a job tell one another why their process of a run ended badly: a file each. Imports no torch."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from dinodiet.errors import UserError, one_line
from dinodiet.io.files import read_json, write_json
from dinodiet.processes.place import machine_name
from dinodiet.store.status import OthersLost, Preempted, ProcessLost

PATIENCE_SECONDS = 10.0  # for the report of the one that was lost
POLL_SECONDS = 0.5


class TaskReports:
    """The reports of all tasks, as one of them reads and writes them.

    Args:
        folder: of these tasks alone; all see it.
        rank: of the process of this task.
    """

    def __init__(self, folder: Path, rank: int) -> None:
        self._folder, self._rank = folder, rank

    def are_there(self) -> bool:
        """Return whether another task reports that its process ended badly."""
        return self._first() is not None

    def cause_of(self, error: BaseException) -> BaseException:
        """Return why the run ended: what this task's process raised, or what another task reports.

        A process that lost the others, or left on a signal while it waited for them, explains nothing where another
        one died. What ended badly here is reported to the others.
        """
        if isinstance(error, OthersLost):
            return self._awaited() or error
        follows = isinstance(error, ProcessLost) or (isinstance(error, Preempted) and error.step is None)
        if follows and (found := self._first()) is not None:
            return found
        if not isinstance(error, (Preempted, KeyboardInterrupt)):
            self._tell(error)
        return error

    def _tell(self, error: BaseException) -> None:
        said, lost = one_line(error), isinstance(error, ProcessLost)
        if not lost:
            kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
            said = f"processes: process {self._rank} on {machine_name()} failed: {kind}{said}"
        with contextlib.suppress(OSError):  # the others end all the same, and know less
            write_json(self._folder / f"rank{self._rank}.json", {"said": said, "lost": lost})

    def _awaited(self) -> UserError | None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (found := self._first()) is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return found

    def _first(self) -> UserError | None:
        """Return the report of the first of the other tasks that has one."""
        for path in sorted(self._folder.glob("rank*.json")):
            report = read_json(path)
            if path.stem != f"rank{self._rank}" and report is not None:
                return (ProcessLost if report.get("lost") else UserError)(str(report.get("said")))
        return None
