import io
import os
import sys
from pathlib import Path

import pytest

from dinodiet.io.files import write_json
from dinodiet.store.grid import Cell, write_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import read_status
from dinodiet.sweep.prune import prune
from dinodiet.sweep.task import Task
from tests.store.test_queue import pretend

# All but c left the grid. Job 8_0 is that of b and c; that of d has ended.
JOBS = {"a": "7_0", "b": "8_0", "c": "8_0", "d": "7_1", "f": "9"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin{os.pathsep}/usr/bin")
    queue = tmp_path / "queue"
    queue.write_text("7_0|Priority\n8_0|None\n9|JobHeldUser\n")
    pretend(tmp_path / "bin", "squeue", f"cat {queue}")
    pretend(tmp_path / "bin", "scancel", f'for job in "$@"; do sed -i "/^$job|/d" {queue}; done')
    for run in JOBS:
        write_json(RunDir(tmp_path / "study" / run).status, {"state": "queued"})
    write_jobs(tmp_path / "study", JOBS)
    return tmp_path / "study"


def grid(study: Path) -> list[Task]:
    return [Task(Cell("c", (), {}, 0), study, {})]


def queued(study: Path) -> list[str]:
    return [line.partition("|")[0] for line in (study.parent / "queue").read_text().split()]


def test_without_a_terminal_they_are_named_and_left(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prune(grid(study), unasked=False)
    told = "2 runs that left the grid still wait or run: a, f; prune=true cancels them\n"
    assert capsys.readouterr().out == told
    assert queued(study) == ["7_0", "8_0", "9"]
    prune([Task(Cell(run, (), {}, 0), study, {}) for run in JOBS], unasked=True)
    assert queued(study) == ["7_0", "8_0", "9"], "nothing left the grid"


@pytest.mark.parametrize(("answer", "left"), [("", ["7_0", "8_0", "9"]), ("y", ["8_0"])])
def test_a_terminal_is_asked(answer: str, left: list[str], study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
    monkeypatch.setattr(sys, "stdout", printed)
    prune(grid(study), unasked=False)
    assert "a, f\nCancel their jobs? [y/N] " in printed.getvalue()
    assert queued(study) == left


def test_what_is_shared_with_the_grid_and_what_is_done_stays(study: Path) -> None:
    write_json(RunDir(study / "f").results, {"format": 2})
    prune(grid(study), unasked=True)
    assert queued(study) == ["8_0", "9"]
    reasons = {run: (read_status(RunDir(study / run)) or {}).get("reason") for run in JOBS}
    cancelled = "it left the grid; its SLURM job 7_0 was cancelled"
    assert reasons == {"a": cancelled, "b": None, "c": None, "d": None, "f": None}
    assert RunDir(study / "f").results.exists()
