"""`status.json`: the state of a run, kept fresh by a heartbeat. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any

from dinodiet.errors import MachineLimit, UserError, one_line
from dinodiet.io.files import is_number, overwrite_json, read_json, write_json
from dinodiet.io.limits import FULL
from dinodiet.store.rundir import RunDir
from dinodiet.store.spent import KEY, Devices, Spending, Spent, as_content

HEARTBEAT_SECONDS = 10.0


_recorded: set[Path] = set()  # the run directories that this process works in


class State(str, Enum):
    """The states of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    PREEMPTED = "preempted"
    BLOCKED = "blocked"  # an input could not be had; the next command tries again
    STOPPED = "stopped"  # by a limit of the machine, such as a full disk: it can go on later
    KILLED = "killed"  # written by the sweep that found it dead


_TEXTS = ("host", "slurm_job", "settings", "reason", "traceback", "phase")
_NUMBERS = ("heartbeat", "started", "pid", "starts", "step", "total_steps", "loss", "images_per_second", "seconds_left")


def read_status(run_dir: RunDir) -> dict[str, Any] | None:
    """Return the status of a run; None where there is none, or a broken one. Values of a wrong type are left out."""
    content = read_json(run_dir.status)
    if content is None or content.get("state") not in [state.value for state in State]:
        return None
    return {key: value for key, value in content.items() if value is None or _is_right(key, value)}


def _is_right(key: str, value: Any) -> bool:
    if key == "requeued_at":
        return isinstance(value, list) and all(step is None or is_number(step) for step in value)
    return is_number(value) if key in _NUMBERS else key not in _TEXTS or isinstance(value, str)


class ProcessLost(UserError):  # noqa: N818 - a fact about the machine
    """A process of a run died without a word: the run is killed, and goes on from its last checkpoint."""


class OthersLost(ProcessLost):
    """What the other processes of the run notice of it: which one it was, and why, they cannot say."""


class Preempted(SystemExit):
    """The run was told to stop and leaves; the same command continues it. `step` is None outside the training."""

    EXIT_CODE = 75  # EX_TEMPFAIL of sysexits.h: try again

    def __init__(self, signal_name: str, step: int | None = None) -> None:
        super().__init__(self.EXIT_CODE)
        self.signal_name = signal_name
        self.step = step

    def __reduce__(self) -> tuple[type[Preempted], tuple[str, int | None]]:
        """Return what makes an equal one, from one process to another."""
        return type(self), (self.signal_name, self.step)


def slurm_job() -> str | None:
    """Return the id of the SLURM job this process belongs to, such as 12 or, in an array, 12_3."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def record_ending(run_dir: RunDir, error: Exception) -> None:
    """Record why a run of several processes ended, as who watched them found out.

    Where a process was lost, what the first one wrote in the end, if anything, is what followed from that; where
    another one failed, the first one has lost the others, or never began.
    """
    content = read_status(run_dir)
    if content is None:
        return
    if isinstance(error, ProcessLost):
        write_json(run_dir.status, {**content, **_lost(one_line(error))})
    elif was_lost(content) or content["state"] == State.QUEUED.value:
        write_json(run_dir.status, {**content, "state": State.FAILED.value, "reason": one_line(error)})


def was_lost(status: Mapping[str, Any]) -> bool:
    """Return whether a run was killed because one of its processes died: the same job, or another, may continue it."""
    return status.get("state") == State.KILLED.value and status.get("lost") is True


def _lost(reason: str) -> dict[str, Any]:
    return {"state": State.KILLED.value, "reason": reason, "lost": True}


def works_here(run_dir: RunDir) -> bool:
    """Return whether this process works on the run: what its file says may be old, where it could not be written."""
    return run_dir.path.absolute() in _recorded


class Status:
    """A context that records the state of the run inside it.

    Entering writes `running`; a thread renews the heartbeat every `HEARTBEAT_SECONDS` seconds, also while the main
    thread computes; leaving writes `done`, `preempted` (also for Ctrl-C), `killed` where another process of the run
    died, `stopped` where the machine cannot give something, or `failed`, both with the traceback. The exception goes
    on. A status that cannot be written for a while does not stop the run; on a full disk it is written over the one
    before it.

    Args:
        run_dir: where it is kept.
        settings: hash of all settings that the run is started with; a failure belongs to them.
        devices: what the run holds; each heartbeat notes what it has spent, over all its starts.
    """

    def __init__(self, run_dir: RunDir, settings: str | None = None, devices: Devices | None = None) -> None:
        self._run_dir, self._settings, self._devices = run_dir, settings, devices or Devices()
        self._content: dict[str, Any] = {}
        self._spending = Spending(self._devices, {})
        self._write_lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Status:
        before = read_status(self._run_dir) or {}
        self._spending = Spending(self._devices, before)
        self._content = {
            "state": State.RUNNING.value,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "slurm_job": slurm_job(),
            "starts": 1 + before.get("starts", 0),
            "requeued_at": before.get("requeued_at", []),
            "started": time.time(),
            "settings": self._settings,
        }
        self._write()
        self._thread.start()
        _recorded.add(self._run_dir.path.absolute())
        return self

    @property
    def spent(self) -> Spent | None:
        """What the run has spent in all its starts, this one up to now; None where an earlier one did not tell."""
        return self._spending.so_far()

    def update(
        self,
        *,
        phase: str | None = None,
        step: int | None = None,
        total_steps: int | None = None,
        loss: float | None = None,
        images_per_second: float | None = None,
        seconds_left: float | None = None,
    ) -> None:
        """Note the progress; None leaves a figure as it is. A new phase is written at once, the rest by heartbeats."""
        progress = {
            "phase": phase,
            "step": step,
            "total_steps": total_steps,
            "loss": loss,
            "images_per_second": images_per_second,
            "seconds_left": seconds_left,
        }
        before = self._content.get("phase")
        self._content = {**self._content, **{key: value for key, value in progress.items() if value is not None}}
        if self._content.get("phase") != before:
            self._try_to_write()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        _recorded.discard(self._run_dir.path.absolute())
        self._content |= self._ending(error)
        self._try_to_write()

    def _ending(self, error: BaseException | None) -> dict[str, Any]:
        """Return the state in which a run is left, and why."""
        if error is None:
            return {"state": State.DONE.value}
        if isinstance(error, (Preempted, KeyboardInterrupt)):  # a second Ctrl-C does not wait for the step's end
            signal_name = error.signal_name if isinstance(error, Preempted) else "SIGINT"
            step = error.step if isinstance(error, Preempted) else None
            where = "" if step is None else f" at step {step}"
            return {"state": State.PREEMPTED.value, "reason": f"told to stop by {signal_name}{where}"}
        if isinstance(error, ProcessLost):
            return _lost(one_line(error))
        reason = one_line(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if self._content.get("phase") in ("training", "final evaluation") and self._run_dir.checkpoint.exists():
            reason += "; the last checkpoint is intact"
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        state = State.STOPPED if isinstance(error, MachineLimit) else State.FAILED
        return {"state": state.value, "reason": reason, "traceback": text}

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            self._try_to_write()

    def _try_to_write(self) -> None:
        with contextlib.suppress(OSError):  # the next heartbeat tries again
            self._write()

    def _write(self) -> None:
        content = {**self._content, "heartbeat": time.time(), KEY: as_content(self.spent)}
        with self._write_lock:
            try:
                write_json(self._run_dir.status, content)
            except OSError as error:
                if error.errno not in FULL or not self._run_dir.status.exists():
                    raise
                overwrite_json(self._run_dir.status, {key: v for key, v in content.items() if key != "traceback"})
