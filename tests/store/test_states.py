import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from dinodiet.io.files import write_json
from dinodiet.store.grid import Cell, submit_lock, write_grid, write_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import CellState, CellStatus, state_of, states

NOW = 1_000_000.0
HERE = socket.gethostname()


def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def judged(tmp_path: Path, status: dict[str, Any], **options: Any) -> CellStatus:
    write_json(RunDir(tmp_path / "run").status, status)
    return state_of(RunDir(tmp_path / "run"), now=NOW, **options)


def running(age: float, **more: Any) -> dict[str, Any]:
    return {"state": "running", "host": "elsewhere", "pid": 1, "heartbeat": NOW - age, "slurm_job": None, **more}


def test_results_mean_done_whatever_the_status_says(tmp_path: Path) -> None:
    write_json(RunDir(tmp_path / "run").results, {})
    assert judged(tmp_path, running(1e5)).state is CellState.DONE


def test_nothing_means_missing(tmp_path: Path) -> None:
    assert state_of(RunDir(tmp_path / "run")).state is CellState.MISSING


@pytest.mark.parametrize(
    ("status", "active", "expected"),
    [
        (running(5), None, CellState.RUNNING),
        (running(500), None, CellState.STOPPED),  # not heard of
        (running(5, host=HERE, pid=os.getppid()), None, CellState.RUNNING),
        (running(5, host=HERE, pid="dead"), None, CellState.STOPPED),
        (running(5, slurm_job="7_1"), {"7_1"}, CellState.RUNNING),
        (running(5, slurm_job="7_1"), set(), CellState.STOPPED),  # SLURM knows better than a fresh heartbeat
        (running(500, slurm_job="7_1"), {"7_1"}, CellState.QUEUED),  # lost with its node, and requeued
        (running(500, slurm_job="7_1"), None, CellState.STOPPED),
        ({"state": "queued"}, None, CellState.QUEUED),
        ({"state": "queued"}, {"7_1"}, CellState.QUEUED),
        ({"state": "queued"}, {"7_1": "JobHeldUser"}, CellState.HELD),
        ({"state": "queued"}, {"7_1": "Priority"}, CellState.QUEUED),
        ({"state": "blocked", "slurm_job": None}, {}, CellState.BLOCKED),
        ({"state": "queued"}, {"8"}, CellState.STOPPED),
        ({"state": "preempted", "slurm_job": "7_1"}, {"7_1"}, CellState.QUEUED),
        ({"state": "preempted", "slurm_job": "7_1"}, set(), CellState.STOPPED),
        ({"state": "preempted", "slurm_job": None}, None, CellState.STOPPED),
        ({"state": "killed", "slurm_job": None}, None, CellState.STOPPED),
        ({"state": "killed", "slurm_job": "7_1"}, {"7_1"}, CellState.STOPPED),  # its job goes on with other runs
        (
            {"state": "killed", "slurm_job": "7_1", "lost": True},
            {"7_1"},
            CellState.QUEUED,
        ),  # its job ends
        ({"state": "killed", "slurm_job": "7_1", "lost": True}, set(), CellState.STOPPED),
        ({"state": "stopped", "slurm_job": "7_1"}, {"7_1"}, CellState.STOPPED),
        ({"state": "failed", "slurm_job": "7_1"}, {"7_1"}, CellState.FAILED),
    ],
)
def test_what_a_status_means(
    tmp_path: Path, status: dict[str, Any], active: set[str] | None, expected: CellState
) -> None:
    if status.get("pid") == "dead":
        status = {**status, "pid": dead_process()}
    job = "7_1" if status["state"] == "queued" else None  # known from the sweep, before the job has started
    assert judged(tmp_path, status, job=job, active=active).state is expected


def test_a_reason_is_given(tmp_path: Path) -> None:
    assert judged(tmp_path, running(500)).reason == "killed: not heard of for 500 s"
    assert judged(tmp_path, {"state": "failed", "reason": "k: 9"}).reason == "k: 9"


def test_a_failure_belongs_to_the_settings_that_it_happened_with(tmp_path: Path) -> None:
    failed = {"state": "failed", "reason": "no GPU", "settings": "a"}
    for settings, expected in {"a": CellState.FAILED, None: CellState.FAILED, "b": CellState.STOPPED}.items():
        found = judged(tmp_path, failed, settings=settings)
        assert found.state is expected
        assert str(found.reason).endswith("no GPU")


def test_a_study_is_its_grid_and_what_else_lies_there(tmp_path: Path) -> None:
    write_grid(tmp_path, [Cell(name, (), {}, 0) for name in ("b", "a")])
    write_jobs(tmp_path, {"a": "3"})
    write_json(RunDir(tmp_path / "a").status, {"state": "queued"})
    write_json(RunDir(tmp_path / "old").results, {})
    (tmp_path / "notes").mkdir()
    found = [(status.run_id, status.state, status.slurm_job) for status in states(tmp_path)]
    assert found == [
        ("b", CellState.MISSING, None),
        ("a", CellState.QUEUED, "3"),
        ("old", CellState.DONE, None),
    ]


def test_what_is_being_submitted_is_queued(tmp_path: Path) -> None:
    write_grid(tmp_path, [Cell("run", (), {}, 0)])
    write_json(RunDir(tmp_path / "run").status, {"state": "queued", "reason": None})

    def told() -> CellStatus:
        (found,) = states(tmp_path, active={})
        return found

    assert (told().state, told().reason) == (CellState.STOPPED, "its SLURM job is gone")
    with FileLock(submit_lock(tmp_path)):  # a command waits for sbatch
        assert (told().state, told().reason) == (CellState.QUEUED, None)
    assert told().state is CellState.STOPPED


def test_a_job_that_came_since_the_queue_was_asked_is_queued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    squeue = tmp_path / "bin" / "squeue"
    squeue.parent.mkdir()
    squeue.write_text("#!/bin/sh\necho '7_1|Priority'\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{squeue.parent}:{os.environ['PATH']}")
    write_grid(tmp_path, [Cell("run", (), {}, 0)])
    write_json(RunDir(tmp_path / "run").status, {"state": "queued", "reason": None})
    write_jobs(tmp_path, {"run": "7_1"})
    assert [cell.state for cell in states(tmp_path, active={"6": "Priority"})] == [CellState.QUEUED]
    write_jobs(tmp_path, {"run": "6_1"})
    assert [cell.state for cell in states(tmp_path, active={"6": "Priority"})] == [CellState.STOPPED]
