"""How the cells of a study stand, read from their directories: disk is the truth, SLURM's queue its witness."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from dinodiet.rundir import RunDir, read_json
from dinodiet.status import HEARTBEAT_SECONDS, State
from dinodiet.sweep.grid import read_grid

SILENT_SECONDS = 6 * HEARTBEAT_SECONDS  # a run that has not been heard of for so long is dead


class CellState(str, Enum):
    """The states of a cell. `stopped`: killed or preempted, and nobody is going to continue it by himself."""

    DONE = "done"
    RUNNING = "running"
    QUEUED = "queued"
    FAILED = "failed"
    STOPPED = "stopped"
    MISSING = "missing"


@dataclass(frozen=True)
class CellStatus:
    """How one cell stands.

    Attributes:
        run_id: name of the run directory.
        state: see `CellState`.
        reason: why it failed or stopped, in one line.
        step, total_steps: progress of the training, where it is known.
        slurm_job: id of its SLURM job, such as 12_3.
        directory: the run directory, which may not exist yet.
    """

    run_id: str
    state: CellState
    directory: Path
    reason: str | None = None
    step: int | None = None
    total_steps: int | None = None
    slurm_job: str | None = None


def states(study: Path, *, jobs: Collection[str] | None = None, now: float | None = None) -> list[CellStatus]:
    """Return how every cell of a study stands: those of its newest grid first, then other run directories.

    Args:
        study: `outputs/<name>`.
        jobs: ids of the SLURM jobs that are queued or running; None: SLURM was not asked, and jobs are believed.
        now: seconds since the epoch; None: the clock's.
    """
    return [state_of(RunDir(study / run_id), jobs=jobs, now=now) for run_id in _run_ids(study)]


def _run_ids(study: Path) -> Iterator[str]:
    planned = [cell.run_id for cell in read_grid(study)]
    yield from planned
    known = set(planned)
    if study.is_dir():
        for path in sorted(study.iterdir()):
            if path.name not in known and not path.name.startswith(".") and _is_run(RunDir(path)):
                yield path.name


def _is_run(run_dir: RunDir) -> bool:
    return run_dir.results.exists() or run_dir.status.exists()


def state_of(run_dir: RunDir, *, jobs: Collection[str] | None = None, now: float | None = None) -> CellStatus:
    """Return how the run in a directory stands; see `states`."""
    if run_dir.results.exists():
        return CellStatus(run_dir.path.name, CellState.DONE, run_dir.path)
    status = read_json(run_dir.status)
    if status is None:
        return CellStatus(run_dir.path.name, CellState.MISSING, run_dir.path)
    state, reason = _judge(status, jobs, time.time() if now is None else now)
    return CellStatus(
        run_dir.path.name,
        state,
        run_dir.path,
        reason,
        status.get("step"),
        status.get("total_steps"),
        status.get("slurm_job"),
    )


def _judge(status: dict[str, Any], jobs: Collection[str] | None, now: float) -> tuple[CellState, str | None]:
    reason, job = status.get("reason"), status.get("slurm_job")
    if status["state"] == State.FAILED.value:
        return CellState.FAILED, reason
    silent = now - status.get("heartbeat", 0.0)
    in_queue = job is not None and (jobs is None or job in jobs)
    if status["state"] == State.RUNNING.value and silent <= SILENT_SECONDS:
        return CellState.RUNNING, None
    if in_queue and (jobs is not None or status["state"] == State.QUEUED.value):
        return CellState.QUEUED, reason
    if status["state"] == State.QUEUED.value:
        return CellState.STOPPED, reason or f"its job {job} is gone"
    return CellState.STOPPED, reason or f"killed: not heard of for {silent:.0f} s"
