"""A study that changes while its jobs wait: cells leave and come, jobs are held, inputs are missing."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.slurm.conftest import Cluster
from tests.slurm.sweeps import PLAIN, Sweep, finish, undisturbed

pytestmark = pytest.mark.slurm

LATER = "+hydra.launcher.additional_parameters.begin=now+3600"


def results(sweep: Sweep) -> str:
    command = [sys.executable, "-m", "dinodiet.results", str(sweep.folder / "sweep")]
    return subprocess.run(command, env=sweep.environment, capture_output=True, text=True, check=False).stdout


def test_jobs_are_held_released_and_cancelled_as_their_cells_leave_the_grid(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, *PLAIN)
    code, output = sweep.run("mode=hold", "seed=0,1,2")
    assert (code, output.strip()) == (1, "error: mode=hold: no run of this grid is queued (3 missing)")
    code, output = sweep.run("seed=0,1,2", "detach=true", LATER)
    assert code == 0, output
    code, output = sweep.run("mode=hold", "seed=0,1")
    assert code == 0, output
    assert "2 runs: 2 held" in output
    assert "0 done, 1 queued, 2 held" in results(sweep)
    code, output = sweep.run("mode=release", "seed=1")
    assert code == 0, output
    assert "1 runs: 1 queued" in output
    code, output = sweep.run("seed=1", "detach=true")
    assert code == 0, output
    assert "2 runs that left the grid still wait or run: " in output
    assert "; prune=true cancels them" in output
    assert len(cluster.queued()) == 3
    code, output = sweep.run("seed=1", "detach=true", "prune=true")
    assert code == 0, output
    assert "cancelled 2 SLURM jobs of 2 runs that left the grid" in output
    assert len(cluster.queued()) == 1
    gone = [status for status in sweep.status().values() if status["state"] == "killed"]
    assert len(gone) == 2
    assert all("it left the grid; its SLURM job" in status["reason"] for status in gone)
    cluster("scontrol", "update", f"job={cluster.queued()[0]}", "StartTime=now")
    code, output = sweep.run("seed=0,1")  # one of those that left comes back
    assert code == 0, output
    assert "submitted 1 runs" in output
    assert sweep.results() == undisturbed("seed=0,1")


def test_a_run_without_its_inputs_is_blocked_until_they_are_there(cluster: Cluster, folder: Path) -> None:
    weights = folder / "pretrained.safetensors"
    sweep, before = Sweep(cluster, folder, *PLAIN, f"model.weights=none,{weights}"), cluster.submitted()
    code, output = sweep.run()
    assert code == 1, output
    assert "submitted 1 runs" in output
    assert "2 runs: 1 done, 1 blocked" in output
    assert f"{weights}" in output[output.index("2 runs: 1 done, 1 blocked") :]
    assert "it looks again for what blocks runs" in output
    assert "blocked" in results(sweep)
    assert cluster.submitted() == before + 1
    (done,) = folder.glob("sweep/*/encoder.safetensors")
    shutil.copy(done, weights)
    code, output = sweep.run()
    assert code == 0, output
    assert "2 runs: 2 done" in output
    assert cluster.submitted() == before + 2


def test_a_limit_is_that_of_finished_runs_of_the_kind(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, *PLAIN, "hydra.launcher.timeout_min=auto")
    for words, minutes in (("seed=0", 240), ("seed=0,1", 20)):  # nothing tells of the first; then seconds, and ten more
        code, output = sweep.run(words)
        assert code == 0, output
        told = re.search(r"to SLURM as job (\d+), (\d+) min each", output)
        assert told is not None and int(told[2]) == minutes
        limits = cluster("sacct", "--noheader", "--allocations", f"--jobs={told[1]}", "--format=TimelimitRaw").split()
        assert limits == [str(minutes)]
    planned = sweep.run("seed=0,1,2", "mode=plan")[1]
    assert "at rates measured on cpu (1 threads)" in planned
    assert "device hours in all" in planned


def test_one_limit_holds_over_all_arrays_of_a_study(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, *PLAIN, "hydra.launcher.array_parallelism=1")
    for seeds in ("seed=0,1", "seed=0,1,2,3"):
        code, output = sweep.run(seeds, "detach=true")
        assert code == 0, output
        assert "submitted 2 runs" in output
    process, most = sweep.start("seed=0,1,2,3,4"), 0
    while process.poll() is None:
        running = cluster("squeue", "--noheader", "--array", "--states=RUNNING,COMPLETING", "--format=%t").split()
        most = max(most, running.count("R"))
        time.sleep(0.3)
    code, output = finish(process)
    assert code == 0, output
    assert "5 runs: 5 done" in output
    assert most == 1
    assert sweep.starts() == [1] * 5
