"""Run cells one after another in this process: libraries are imported once, and nothing is shared out."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from dinodiet.errors import UserError, one_line
from dinodiet.store.states import IN_WORK, CellState
from dinodiet.sweep.drive import statuses_of
from dinodiet.sweep.progress import Progress
from dinodiet.sweep.task import Task, execute

POLL_SECONDS = 2.0


class Local:
    """Runs tasks in order; those that another process works on come last, when it is done with them."""

    in_process = True

    def run(self, tasks: Sequence[Task], progress: Progress) -> None:
        """Run the tasks, each to its end; see `dinodiet.sweep.drive.Launcher`."""
        waiting = deque(tasks)
        others: deque[Task] = deque()
        while waiting or others:
            if not waiting:
                time.sleep(POLL_SECONDS)
                waiting, others = others, waiting
            task = waiting.popleft()
            (status,) = statuses_of([task])
            if status.state in IN_WORK:
                others.append(task)
                continue
            if status.state not in (CellState.DONE, CellState.FAILED):
                progress.show([replace(status, state=CellState.RUNNING)])
                attempt(task)
                (status,) = statuses_of([task])
            progress.show([])
            progress.ended(status)


def attempt(task: Task) -> None:
    """Run a task; a failure is told here and noted in its directory, not raised.

    Raises:
        Preempted: the process was asked to stop.
    """
    try:
        execute(task)
    except UserError as error:
        with contextlib.suppress(OSError):  # it may print to a full disk
            print(f"error: {one_line(error)}", file=sys.stderr, flush=True)
    except Exception:
        traceback.print_exc()
