"""A run on two nodes with two processes each, disturbed as clusters do: it ends as in one process, undisturbed."""

from __future__ import annotations

import functools
import json
import os
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dinodiet.processes.heartbeat import VARIABLE
from tests import forking
from tests.processes.training import same_scores
from tests.running import TINY
from tests.slurm.conftest import Cluster, wait_until
from tests.slurm.sweeps import SLOW, Sweep, finish

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

TASKS = ("hydra.launcher.nodes=2", "hydra.launcher.tasks_per_node=2")
EPOCHS = "schedule.epochs=30"  # 120 steps
ON_N1 = "+hydra.launcher.additional_parameters.nodelist=n1"
ON_N2_N3 = "+hydra.launcher.additional_parameters.nodelist='n2,n3'"


class Run(Sweep):
    """A sweep of one run."""

    @property
    def path(self) -> Path:
        (found,) = self.status()
        return self.folder / "sweep" / found

    def log(self) -> str:
        return (self.path / "log.txt").read_text()

    def has_trained(self, starts: int, steps: int = 6) -> bool:
        """Return whether the process that began the run for so many times has come some steps further."""
        status = next(iter(self.status().values()), {})
        if status.get("starts") != starts or status.get("state") != "running" or status.get("phase") != "training":
            return False
        begun = json.loads((self.path / "metrics.jsonl").read_text().splitlines()[-1])["step"] if self.steps() else 0
        self.begun.setdefault(starts, begun)
        return begun >= self.begun[starts] + steps

    def until_trained(self, starts: int) -> dict[str, Any]:
        self.begun: dict[int, int] = {}
        wait_until(lambda: self.has_trained(starts))
        return self.status()[self.path.name]

    def same_as_undisturbed(self) -> None:
        same_as_undisturbed(self.path)


def same_as_undisturbed(run: Path, seed: int = 0) -> None:
    ours, theirs = outcome(run), undisturbed(seed)
    same_scores(ours[1], theirs[1])
    for name, value in theirs[0].items():
        torch.testing.assert_close(ours[0][name], value, rtol=0, atol=1e-5)


def outcome(run: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the weights and final scores of a run."""
    return load_file(run / "weights.safetensors"), json.loads((run / "results.json").read_text())["final"]


@functools.cache
def undisturbed(seed: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the weights and scores of the same run in one process, without SLURM."""
    with tempfile.TemporaryDirectory() as place:
        whole = forking.start(Path(place), "name=whole", *TINY, EPOCHS, f"seed={seed}")
        assert forking.finish(whole) == 0, forking.printed(Path(place))
        (run,) = (Path(place) / "whole").glob("vit*")
        return outcome(run)


def processes_of(cluster: Cluster, job: str, rank: int | None = None, doing: bytes = b"spawn_main") -> list[int]:
    """Return the ids of the processes of a job: of a task, or of all; those alone whose command says what they do."""
    given = {f"SLURM_CONF={cluster.environment['SLURM_CONF']}", f"SLURM_JOB_ID={job}"}
    given |= set() if rank is None else {f"SLURM_PROCID={rank}"}
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words, environment = (path / "cmdline").read_bytes(), (path / "environ").read_bytes()
        except OSError:  # it has just ended
            continue
        if doing in words and {entry.encode() for entry in given} <= set(environment.split(b"\0")):
            found.append(int(path.name))
    return sorted(found)


def start(cluster: Cluster, folder: Path, *words: str) -> Run:
    return Run(cluster, folder, "seed=0", *SLOW, EPOCHS, *words)


def kill(cluster: Cluster, job: str, rank: int) -> None:
    """Kill the process of a task of a job."""
    (victim,) = processes_of(cluster, raw(cluster, job), rank)
    os.kill(victim, signal.SIGKILL)


def raw(cluster: Cluster, job: str) -> str:
    """Return the id under which the processes of a task of an array know their job."""
    shown = cluster("scontrol", "show", "job", job).split()
    return next(word.removeprefix("JobId=") for word in shown if word.startswith("JobId="))


class StoppedTask:
    """A run of a sweep, and a task of it that is stopped as a frozen machine stops it."""

    def __init__(self, sweep: Sweep, seed: int, *, rank: int) -> None:
        self._sweep, self._seed, self._rank = sweep, seed, rank
        self.job = ""

    @property
    def run(self) -> Path:
        (found,) = (name for name in self._sweep.status() if f"_seed{self._seed}_" in name)
        return self._sweep.folder / "sweep" / found

    def is_stopped(self) -> bool:
        """Return whether the task is stopped; it is once there is a checkpoint."""
        if not self.job and any(self._sweep.folder.glob(f"sweep/*_seed{self._seed}_*/checkpoint.pt")):
            cluster = self._sweep.cluster
            self.job = raw(cluster, self._sweep.status()[self.run.name]["slurm_job"])
            (process,) = processes_of(cluster, self.job, self._rank)
            parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
            for stopped in (parent, process):
                os.kill(stopped, signal.SIGSTOP)
        return bool(self.job)

    def log(self, name: str = "log.txt") -> str:
        return (self.run / name).read_text()


def test_a_killed_process_and_a_failed_node_cost_nothing(cluster: Cluster, folder: Path) -> None:
    run = start(cluster, folder, *TASKS, ON_N2_N3)
    command = run.start()
    status = run.until_trained(1)
    kill(cluster, status["slurm_job"], 3)
    run.until_trained(2)
    told = [line for line in run.log().splitlines() if line.startswith("error: ")]
    assert len(told) == 1, told
    assert "process 3 on n3 was ended by SIGKILL" in told[0]
    assert "Traceback" not in run.log()
    cluster.node("kill", "n3")
    try:
        wait_until(lambda: cluster("squeue", "--noheader", "--array", "--format=%t").split() in (["PD"], []))
    finally:
        cluster.node("start", "n3")
    code, output = finish(command)
    assert code == 0, output
    assert "its run was killed: submitting it again" in output
    assert run.starts() == [3]
    run.same_as_undisturbed()


def test_two_runs_on_the_same_nodes_each_with_a_stopped_task(cluster: Cluster, folder: Path) -> None:
    sweep, before = Sweep(cluster, folder, "seed=0,1", *SLOW, EPOCHS, *TASKS, ON_N2_N3), cluster.submitted()
    sweep.environment[VARIABLE] = "0.3"
    command = sweep.start()
    last, first = StoppedTask(sweep, 0, rank=3), StoppedTask(sweep, 1, rank=0)
    wait_until(lambda: last.is_stopped() & first.is_stopped())  # both are looked at
    ports = [json.loads(path.read_text())["port"] for path in folder.glob("sweep/.sweep/tasks/*/address.json")]
    assert len(set(ports)) == len(ports) == 2
    wait_until(lambda: not any(processes_of(cluster, run.job, doing=b"") for run in (last, first)))
    code, output = finish(command)
    assert code == 0, output
    assert output.count("its run was killed: submitting it again") == 2
    assert (sweep.starts(), cluster.submitted()) == ([2, 2], before + 4)
    silent = "on {} gave no sign of life for 0.3 minutes (DINODIET_SILENCE_MINUTES), and all were ended"
    assert f"process 3 {silent.format('n3')}" in last.log()
    for rank in (1, 2, 3):
        assert f"process 0 {silent.format('n2')}" in first.log(f"log.rank{rank}.txt")
    for seed, run in enumerate((last, first)):
        assert "continuing from step" in run.log()
        same_as_undisturbed(run.run, seed)


def test_preemption_and_the_time_limit_reach_all_tasks(cluster: Cluster, folder: Path) -> None:
    run, before = start(cluster, folder, *TASKS, ON_N2_N3), cluster.submitted()
    command = run.start()
    run.until_trained(1)
    cluster("sbatch", "-p", "urgent", "-w", "n3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 2")
    status = run.until_trained(2)
    cluster("scancel", "--signal=USR2", status["slurm_job"])
    code, output = finish(command)
    assert code == 0, output
    (status,) = run.status().values()
    assert (status["starts"], len(status["requeued_at"])) == (3, 1)  # one task requeued
    assert cluster.submitted() == before + 1
    assert "error" not in run.log()
    run.same_as_undisturbed()


def test_a_process_of_a_run_in_one_task_is_lost(cluster: Cluster, folder: Path) -> None:
    run = start(cluster, folder, "processes=2", ON_N1)
    command = run.start()
    status = run.until_trained(1)
    workers = processes_of(cluster, raw(cluster, status["slurm_job"]))
    os.kill(next(worker for worker in workers if worker != status["pid"]), signal.SIGKILL)
    code, output = finish(command)
    assert code == 0, output
    assert "its run was killed: submitting it again" in output
    assert "process 1 on n1 was ended by SIGKILL" in run.log()
    assert run.starts() == [2]
    run.same_as_undisturbed()


def refused(cluster: Cluster, folder: Path, words: Sequence[str]) -> str:
    code, output = Sweep(cluster, folder, *words).run()
    assert code == 1
    (line,) = output.splitlines()
    return line


def test_what_tasks_cannot_do_is_refused_before_it_is_submitted(cluster: Cluster, folder: Path) -> None:
    before = cluster.submitted()
    assert "processes: 2, and a job has 4 tasks" in refused(cluster, folder, [*TASKS, "processes=2"])
    shared = ("hydra.launcher.runs_per_gpu=2", "processes=2")
    assert "processes: 2 of a run need a GPU each, and runs_per_gpu=2" in refused(cluster, folder, shared)
    assert cluster.submitted() == before
