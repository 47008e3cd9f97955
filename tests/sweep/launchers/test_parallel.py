import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dinodiet.config.build import build
from dinodiet.errors import UserError
from dinodiet.io.files import read_json
from dinodiet.store.states import CellState
from dinodiet.store.status import Preempted
from dinodiet.sweep.drive import drive, statuses_of
from dinodiet.sweep.launchers import parallel
from dinodiet.sweep.launchers.parallel import Parallel
from dinodiet.sweep.task import Task
from tests.places import ROOT
from tests.sweep.cells import seeds, starts, table, tasks

KILLS = 20
LONG = ("schedule.epochs=40", "checkpoint_minutes=0", "log_every=1")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "POLL_SECONDS", 0.1)


def running_pids(grid: list[Task]) -> list[int]:
    found = [read_json(task.run_dir.status) or {} for task in grid]
    return [status["pid"] for status in found if status.get("state") == "running"]


LOOKING = """
import importlib, torch

def look():
    raise SystemExit("looked for GPUs")

torch._C._cuda_getDeviceCount = torch._C._cuda_init = look
for name in {names}:
    importlib.import_module(name)
print("imported")
"""


@pytest.mark.slow
def test_what_runs_are_forked_from_has_not_looked_for_gpus() -> None:
    """CUDA refuses to work in a process whose parent did."""
    names = [name for name in parallel.PRELOADED if name != "__main__"]
    found = subprocess.run(
        [sys.executable, "-c", LOOKING.format(names=names)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.stdout == "imported\n", found.stderr


@pytest.mark.slow
def test_hard_kills_of_workers_cost_nothing_but_time(tmp_path: Path) -> None:
    grid, whole = seeds(tmp_path / "killed", 3, *LONG), seeds(tmp_path / "whole", 3, *LONG)
    drive(whole, Parallel(processes=2), retry_failed=False)  # as many threads: they order sums
    draw, over = random.Random(0), threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while len(killed) < KILLS and not over.is_set():
            time.sleep(draw.uniform(0.0, 0.6))
            if pids := running_pids(grid):
                pid = draw.choice(pids)
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                if pid not in killed:
                    killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        while len(killed) < KILLS:
            for status in drive(grid, Parallel(processes=2), retry_failed=False):
                assert status.state in (CellState.DONE, CellState.STOPPED)
                if status.state is CellState.STOPPED:
                    assert status.reason == "killed by SIGKILL"
                else:  # a run that is done cannot be killed: begin it anew
                    _forget(grid, status.run_id)
    finally:
        over.set()
        thread.join()
    statuses = drive(grid, Parallel(processes=2), retry_failed=False)
    assert [status.state for status in statuses] == [CellState.DONE] * 3
    assert list(table(grid).values()) == list(table(whole).values())
    print(f"{len(killed)} workers killed in {sum(starts(grid))} starts")


def _forget(grid: list[Task], run_id: str) -> None:
    (run_dir,) = [task.run_dir for task in grid if task.cell.run_id == run_id]
    for path in (run_dir.results, run_dir.checkpoint, run_dir.previous_checkpoint, run_dir.metrics):
        path.unlink(missing_ok=True)


@pytest.mark.slow
def test_a_bad_cell_and_a_signal(tmp_path: Path) -> None:
    grid = tasks(tmp_path, ("seed=0",), ("++model.model_args.num_heads=5",), ("seed=1", *LONG), ("seed=2", *LONG))

    def stop() -> None:
        while len(running_pids(grid[2:])) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(Preempted):
        drive(grid, Parallel(processes=2), retry_failed=False)
    thread.join()
    states = [status.state for status in statuses_of(grid)]
    assert states[:2] == [CellState.DONE, CellState.FAILED]
    assert set(states[2:]) == {CellState.STOPPED}
    assert "writes to" in grid[0].run_dir.log.read_text()
    assert "error" in grid[1].run_dir.log.read_text().lower()
    states = [status.state for status in drive(grid, Parallel(processes=2), retry_failed=False)]
    assert states == [CellState.DONE, CellState.FAILED, CellState.DONE, CellState.DONE]


@pytest.mark.slow
def test_a_killed_run_of_a_packing_neither_ends_nor_blames_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid, whole = seeds(tmp_path / "packed", 3, *LONG), seeds(tmp_path / "whole", 3, *LONG)
    drive(whole, Parallel(runs_per_gpu=2, gpus=0), retry_failed=False)
    killed, over = list[int](), threading.Event()

    def kill() -> None:
        while not killed and not over.is_set():
            time.sleep(0.02)
            status = read_json(grid[0].run_dir.status) or {}
            if status.get("phase") == "training" and running_pids(grid[1:]):  # it has a neighbour
                os.kill(status["pid"], signal.SIGKILL)
                killed.append(status["pid"])

    thread = threading.Thread(target=kill)
    thread.start()
    capsys.readouterr()
    first, *others = drive(grid, Parallel(runs_per_gpu=2, gpus=0), retry_failed=False)
    over.set()
    thread.join()
    assert "2 runs at a time on this machine" in capsys.readouterr().out
    assert (first.state, first.reason) == (CellState.STOPPED, "killed by SIGKILL")
    assert [status.state for status in others] == [CellState.DONE] * 2
    assert [status.reason for status in others] == [None] * 2
    statuses = drive(grid, Parallel(runs_per_gpu=2, gpus=0), retry_failed=False)
    assert [status.state for status in statuses] == [CellState.DONE] * 3
    assert starts(grid) == [2, 1, 1]
    assert list(table(grid).values()) == list(table(whole).values())


def test_processes_and_runs_per_gpu_exclude_each_other() -> None:
    with pytest.raises(UserError, match=r"^launcher.runs_per_gpu: 2 beside processes=3; give one of them$"):
        build(
            {"_target_": "dinodiet.sweep.launchers.parallel.Parallel", "processes": 3, "runs_per_gpu": 2}, "launcher"
        )()


@pytest.mark.parametrize("wrong", [{"processes": 0}, {"gpus": -1}, {"runs_per_gpu": 0}])
def test_bad_numbers_are_refused(wrong: dict[str, int]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(UserError, match=rf"^launcher.{name}: {value}; must be a whole number"):
        build({"_target_": "dinodiet.sweep.launchers.parallel.Parallel", **wrong}, "launcher")
