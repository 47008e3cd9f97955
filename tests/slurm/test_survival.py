"""Sweeps on a real cluster, disturbed in every way that clusters do: they end complete, or name what is missing."""

import functools
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests import forking
from tests.running import TINY, command, scores
from tests.slurm.conftest import Cluster, wait_until

pytestmark = pytest.mark.slurm

# The same numbers as SingleView, slowly: time to disturb a run that takes no processor from the others.
SLOW_VIEW = """
import time
from dinodiet.data.views.views import SingleView


class SlowView(SingleView):
    def __call__(self, images, generator):
        time.sleep(0.06)
        return super().__call__(images, generator)
"""
SLURM = (
    "hydra/launcher=slurm",
    "hydra.launcher.poll_seconds=1",
    "hydra.launcher.gpus_per_node=null",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=1",
)
SLOW = ("method.views._target_=slow_view.SlowView", "checkpoint_minutes=0.02", "schedule.epochs=60")  # 240 steps
PLAIN = ("schedule.epochs=60",)


class Sweep:
    """A multirun's command, where it writes, and what can be read there."""

    def __init__(self, cluster: Cluster, folder: Path, *overrides: str, base: Sequence[str] = TINY) -> None:
        (folder / "slow_view.py").write_text(SLOW_VIEW)
        self.cluster, self.folder = cluster, folder
        # A shell starts background jobs with Ctrl-C switched off, and Python then leaves it off.
        ctrl_c = ("env", "--default-signal=INT")
        self.command = [*ctrl_c, *command(folder, "-m", "name=sweep", *base, *SLURM, *overrides)]
        self.environment = {**os.environ, **cluster.environment, "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"}

    def start(self, *more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command, *more],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *more: str) -> tuple[int, str]:
        return finish(self.start(*more))

    def status(self) -> dict[str, dict[str, Any]]:
        """Return status.json by run id."""
        return {path.parent.name: json.loads(path.read_text()) for path in self.folder.glob("sweep/*/status.json")}

    def starts(self) -> list[int]:
        return sorted(status.get("starts", 0) for status in self.status().values())

    def steps(self) -> list[int]:
        """Return the last logged step of each run."""
        return [
            int(json.loads(line)["step"])
            for path in self.folder.glob("sweep/*/metrics.jsonl")
            if (line := ["", *path.read_text().splitlines()][-1]).endswith("}")
        ]

    def all_train(self, runs: int) -> bool:
        """Return whether so many runs have come some way, but are not near their end."""
        return sum(step >= 20 for step in self.steps()) == runs

    def results(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        return read(self.folder / "sweep")


def finish(process: subprocess.Popen[str], seconds: float = 400) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, output


def read(study: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return what training and chance decide, by what the grids here vary."""
    found = {}
    for path in study.glob("[!.]*/results.json"):
        results = json.loads(path.read_text())
        found[results["choices"]["method"], results["seed"], results["config"]["model"]["model_args"]["num_heads"]] = (
            scores(results)
        )
    return found


@pytest.fixture
def folder(tmp_path: Path, cluster: Cluster) -> Iterator[Path]:
    yield tmp_path
    for job in cluster.queued():
        cluster("scancel", job)
    wait_until(lambda: not cluster.queued())


@functools.cache
def undisturbed(*overrides: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Return the scores of the same grid, run in one process without SLURM."""
    with tempfile.TemporaryDirectory() as folder:
        whole = forking.start(Path(folder), "-m", "name=whole", *TINY, *PLAIN, *overrides)
        assert forking.finish(whole) == 0, forking.printed(Path(folder))
        return read(Path(folder) / "whole")


def test_a_grid_runs_as_one_array_and_not_again(cluster: Cluster, folder: Path) -> None:
    grid = ("seed=0,1,2", "method=diet,diet_dual", "schedule.epochs=3")
    sweep, before = Sweep(cluster, folder, *grid), cluster.submitted()
    code, output = sweep.run()
    assert code == 0, output
    assert "6 runs: 6 done" in output
    assert sweep.starts() == [1] * 6
    assert len({status["slurm_job"].split("_")[0] for status in sweep.status().values()}) == 1
    assert cluster.submitted() == before + 6
    assert sweep.results() == undisturbed(*grid)
    code, output = sweep.run()
    assert (code, cluster.submitted()) == (0, before + 6), output
    assert "6 runs: 6 done" in output


def test_one_bad_cell_of_six_costs_one_cell(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "++model.model_args.num_heads=1,2,3,5,4,6")  # 5 does not divide the width
    before = cluster.submitted()
    code, output = sweep.run()
    assert code == 1
    assert "6 runs: 5 done, 1 failed" in output
    (bad,) = [name for name, status in sweep.status().items() if status["state"] == "failed"]
    listed = output[output.index("6 runs:") :]
    assert f"failed  {bad}: " in listed
    assert f"{bad}/log.txt" in listed
    assert "1 of 6 runs did not finish" in output
    assert sorted(heads for _, _, heads in sweep.results()) == [1, 2, 3, 4, 6]
    code, output = sweep.run()
    assert (code, cluster.submitted()) == (1, before + 6), "a failed run is not run again unasked"
    code, output = sweep.run("retry=failed")
    assert (code, cluster.submitted()) == (1, before + 7), output
    assert sweep.starts() == [1, 1, 1, 1, 1, 2]


def test_a_preempted_run_goes_on_where_it_was(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0", *SLOW, "+hydra.launcher.additional_parameters.nodelist=n3")
    process = sweep.start()
    wait_until(lambda: sweep.all_train(1))
    cluster("sbatch", "-p", "urgent", "-w", "n3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 5")
    code, output = finish(process)
    assert code == 0, output
    assert sweep.starts() == [2]
    assert sweep.results() == undisturbed("seed=0")
    logs = [path.read_text() for path in folder.glob("sweep/*/log.txt")]
    assert all("continuing from step" in log for log in logs)


def test_a_run_survives_a_node_that_fails(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0", *SLOW, "+hydra.launcher.additional_parameters.nodelist=n2")
    process = sweep.start()
    wait_until(lambda: sweep.all_train(1))
    cluster.node("kill", "n2")
    try:
        wait_until(lambda: cluster("squeue", "--noheader", "--array", "--format=%t").split() in (["PD"], []))
    finally:
        cluster.node("start", "n2")
    code, output = finish(process)
    assert code == 0, output
    assert sweep.starts() == [2]
    assert sweep.results() == undisturbed("seed=0")
    # Where the processes die a moment before their daemons, SLURM calls the job failed and requeues nothing.
    endings = cluster("sacct", "-D", "--noheader", "--name=dinodiet", "--format=State%20").split()
    assert "NODE_FAIL" in endings or "submitting it again" in output


def test_a_run_longer_than_the_time_limit_is_requeued_until_it_is_done(cluster: Cluster, folder: Path) -> None:
    limits = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=55")  # SLURM signals up to a minute early
    long = ("schedule.epochs=500",)  # 2,000 steps
    sweep = Sweep(cluster, folder, "seed=0", *SLOW, *long, *limits)
    code, output = finish(sweep.start(), 540)
    assert code == 0, output
    (status,) = sweep.status().values()
    print(f"requeued at steps {status['requeued_at']}")
    assert len(status["requeued_at"]) >= 2
    assert status["requeued_at"] == sorted(status["requeued_at"])
    assert status["starts"] == 1 + len(status["requeued_at"])
    assert sweep.results() == undisturbed("seed=0", *long)


def test_a_run_killed_without_a_word_is_submitted_again(cluster: Cluster, folder: Path) -> None:
    sweep, before = Sweep(cluster, folder, "seed=0", *SLOW), cluster.submitted()
    process = sweep.start()
    wait_until(lambda: sweep.all_train(1))
    (status,) = sweep.status().values()
    os.kill(status["pid"], signal.SIGKILL)
    code, output = finish(process)
    assert code == 0, output
    assert "ended as FAILED and its run was killed: submitting it again" in output
    assert cluster.submitted() == before + 2
    assert sweep.starts() == [2]
    assert sweep.results() == undisturbed("seed=0")


def test_a_requeued_run_goes_on(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0,1", *SLOW)
    process = sweep.start()
    wait_until(lambda: sweep.all_train(2))
    cluster("scontrol", "requeue", next(iter(sweep.status().values()))["slurm_job"])
    code, output = finish(process)
    assert code == 0, output
    assert sweep.starts() == [1, 2]
    assert sweep.results() == undisturbed("seed=0,1")


def test_a_cancelled_job_is_named_and_the_same_command_continues_it(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0,1", *SLOW)
    process = sweep.start()
    wait_until(lambda: sweep.all_train(2))
    name, status = next(iter(sweep.status().items()))
    cluster("scancel", status["slurm_job"])
    code, output = finish(process)
    assert code == 1
    assert "2 runs: 1 done, 1 stopped" in output
    assert f"stopped {name}" in output
    assert f"SLURM job {status['slurm_job']} ended as CANCELLED" in output
    code, output = sweep.run()
    assert code == 0, output
    assert "submitted 1 runs" in output
    assert sweep.starts() == [1, 2]
    assert sweep.results() == undisturbed("seed=0,1")


def test_ctrl_c_cancels_and_the_same_command_continues(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0", *SLOW)
    process = sweep.start()
    wait_until(lambda: sweep.all_train(1))
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    assert code == 75, output
    assert "cancelling 1 SLURM jobs" in output
    assert not cluster.queued()
    assert "1 runs: 1 stopped" in output
    code, output = sweep.run()
    assert code == 0, output
    assert sweep.starts() == [2]
    assert sweep.results() == undisturbed("seed=0")


def test_ctrl_c_can_leave_the_jobs_running(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0", *SLOW, "hydra.launcher.on_interrupt=detach")
    process = sweep.start()
    wait_until(lambda: sweep.all_train(1))
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    assert code == 75, output
    assert len(cluster.queued()) == 1
    code, output = sweep.run()
    assert code == 0, output
    assert "submitted" not in output
    assert sweep.starts() == [1]


def test_detached_lost_and_doubled_commands_attach_to_the_same_jobs(cluster: Cluster, folder: Path) -> None:
    sweep, before = Sweep(cluster, folder, "seed=0,1", *SLOW), cluster.submitted()
    code, output = sweep.run("detach=true")
    assert code == 0, output
    assert "submitted 2 runs" in output
    assert "2 runs: 2 queued" in output or "running" in output
    lost = sweep.start()
    wait_until(lambda: sweep.all_train(2))
    lost.kill()  # the terminal is gone
    lost.communicate()
    twice = [sweep.start(), sweep.start()]
    for process in twice:
        code, output = finish(process)
        assert code == 0, output
        assert "2 runs: 2 done" in output
    assert cluster.submitted() == before + 2
    assert sweep.starts() == [1, 1]
    assert sweep.results() == undisturbed("seed=0,1")


def test_a_partition_that_does_not_exist(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0,1", "hydra.launcher.partition=nowhere")
    before = cluster.submitted()
    code, output = sweep.run()
    assert code == 1
    assert "invalid partition specified: nowhere" in output
    assert "Traceback" not in output
    assert "2 runs: 2 missing" in output
    assert not sweep.status()
    assert cluster.submitted() == before
