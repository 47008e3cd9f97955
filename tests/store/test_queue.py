import os
from pathlib import Path

import pytest

from dinodiet.store import queue as slurm_queue


def pretend(folder: Path, name: str, script: str) -> None:
    """Put a program of SLURM's name on the path: this machine may have no SLURM."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin{os.pathsep}/usr/bin")
    return tmp_path / "bin"


def test_active_jobs_are_told_one_by_one(path: Path) -> None:
    pretend(path, "squeue", 'echo "12_0|None"; echo "12_1|JobHeldUser"; echo "15|Priority"')
    active = slurm_queue.active_jobs()
    assert active == {"12_0": "None", "12_1": "JobHeldUser", "15": "Priority"}
    assert [slurm_queue.is_held(reason) for reason in active.values()] == [False, True, False]


def test_a_queue_that_does_not_answer_is_not_an_empty_one(path: Path) -> None:
    pretend(path, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert slurm_queue.active_jobs() is None


def test_endings_are_the_state_without_who_did_it(path: Path) -> None:
    pretend(path, "sacct", 'echo "12_0|CANCELLED by 1000"; echo "12_1|OUT_OF_MEMORY"; echo "99|FAILED"')
    assert slurm_queue.endings(["12_0", "12_1"]) == {"12_0": "CANCELLED", "12_1": "OUT_OF_MEMORY"}


def test_without_accounting_there_are_no_endings(path: Path) -> None:
    pretend(path, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    assert slurm_queue.endings(["12_0"]) == {}


def test_the_size_of_arrays_is_the_clusters(path: Path) -> None:
    pretend(path, "scontrol", 'echo "MaxArraySize            = 501"; echo "MaxJobCount = 9"')
    assert slurm_queue.max_array_size() == 501
