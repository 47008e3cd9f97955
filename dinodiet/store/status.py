"""`status.json`: the state of a run, kept fresh by a heartbeat. Imports no torch."""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from enum import Enum
from types import TracebackType
from typing import Any

from dinodiet.errors import UserError, one_line
from dinodiet.io.files import read_json, write_json
from dinodiet.store.rundir import RunDir

HEARTBEAT_SECONDS = 10.0


class State(str, Enum):
    """The states of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    PREEMPTED = "preempted"
    KILLED = "killed"  # written by the sweep that found it dead


class Preempted(SystemExit):
    """The run was told to stop and leaves; the same command continues it. `step` is None outside the training."""

    EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again

    def __init__(self, signal_name: str, step: int | None = None) -> None:
        super().__init__(self.EXIT_CODE)
        self.signal_name = signal_name
        self.step = step


def slurm_job() -> str | None:
    """Return the id of the SLURM job this process belongs to, such as 12 or, in an array, 12_3."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


class Status:
    """A context that records how the run inside it fares.

    Entering writes `running`; a thread renews the heartbeat every `HEARTBEAT_SECONDS` seconds, also while the main
    thread computes; leaving writes `done`, `preempted`, or `failed` with the traceback. The exception goes on.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._content: dict[str, Any] = {}
        self._write_lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Status:
        before = read_json(self._run_dir.status) or {}
        self._content = {
            "state": State.RUNNING.value,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slurm_job": slurm_job(),
            "starts": 1 + before.get("starts", 0),
            "requeued_at": before.get("requeued_at", []),
            "started": time.time(),
        }
        self._write()
        self._thread.start()
        return self

    def update(self, **progress: Any) -> None:
        """Note the progress (step, phase ...). A new phase is written at once, the rest by the heartbeat."""
        new_phase = progress.get("phase", self._content.get("phase")) != self._content.get("phase")
        self._content = {**self._content, **progress}
        if new_phase:
            self._write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if error is None:
            self.update(state=State.DONE.value)
        elif isinstance(error, Preempted):
            where = "" if error.step is None else f" at step {error.step}"
            self.update(state=State.PREEMPTED.value, reason=f"told to stop by {error.signal_name}{where}")
        else:
            reason = one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            text = "".join(traceback.format_exception(kind, error, trace))
            self.update(state=State.FAILED.value, reason=reason, traceback=text)
        self._write()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            self._write()

    def _write(self) -> None:
        with self._write_lock:
            write_json(self._run_dir.status, {**self._content, "heartbeat": time.time()})
