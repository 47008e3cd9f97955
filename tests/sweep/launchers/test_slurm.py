from pathlib import Path
from typing import Any

import pytest

from dinodiet.config.build import build
from dinodiet.errors import UserError
from dinodiet.store.grid import Cell
from dinodiet.sweep.drive import as_started
from dinodiet.sweep.launchers.slurm import Slurm
from dinodiet.sweep.launchers.slurm_sizes import tasks_per_node
from dinodiet.sweep.task import Task


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"timeout_min": 2}, "signal_delay_s: 120 s before a limit"),
        ({"timeout_min": 3}, "signal_delay_s"),
        ({"timeout_min": "soon"}, "timeout_min: 'soon'; must be"),
        ({"timeout_min": "auto", "signal_delay_s": 540}, "signal_delay_s: 540 s before a limit of 10 min"),
        ({"cpus_per_task": 0}, "cpus_per_task: 0; must be a whole number of at least 1"),
        ({"gpus_per_node": -1}, "gpus_per_node: -1; must be a whole number of at least 0"),
        ({"array_parallelism": 0}, "array_parallelism: 0; must be a whole number of at least 1"),
        ({"runs_per_gpu": 0}, "runs_per_gpu: 0; must be a whole number"),
        ({"gpu_mem_gb": 0}, "gpu_mem_gb: 0; must be"),
        (
            {"runs_per_gpu": 2, "gpus_per_node": 4},
            "runs_per_gpu: 2 runs share a job with one GPU, and gpus_per_node is 4",
        ),
        ({"runs_per_gpu": 2, "nodes": 2}, "nodes is 2; set runs_per_gpu=1 or nodes=1"),
        ({"gpus_per_node": 1, "tasks_per_node": 2}, "tasks_per_node: 2, and gpus_per_node is 1; a process needs a GPU"),
        ({"on_interrupt": "ignore"}, "on_interrupt: 'ignore'; must be one of: cancel, detach"),
    ],
)
def test_settings_that_would_bite_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(UserError) as refused:
        build({"_target_": "dinodiet.sweep.launchers.slurm.Slurm", **settings}, "hydra.launcher")()
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "tasks"),
    [
        ({}, 1),
        ({"gpus_per_node": 4}, 4),
        ({"gpus_per_node": 4, "tasks_per_node": 1}, 1),
        ({"gpus_per_node": 4, "gpus_per_task": 2}, 2),
        ({"tasks_per_node": 3}, 3),
    ],
)
def test_a_node_has_a_task_for_each_gpu(settings: dict[str, int], tasks: int) -> None:
    assert tasks_per_node(settings) == tasks


def task(**config: Any) -> Task:
    plain = {"mode": "train", "processes": 1, "schedule": {"batch_size": 64}, **config}
    return Task(Cell("run", (), {}, 0), Path("study"), plain)


@pytest.mark.parametrize(
    ("launcher", "config", "says"),
    [
        ({"nodes": 2, "gpus_per_node": 4}, {"processes": 4}, "processes: 4, and a job has 8 tasks"),
        ({"nodes": 2}, {"mode": "landscape"}, "mode: landscape is for one process, and a job has 2 tasks"),
        ({"nodes": 3}, {}, "schedule.batch_size: 3 processes cannot share 64 images evenly; choose 63 or 66"),
        ({"nodes": 2}, {"record": {"losses": {}}}, "record: losses: records look at one process, and there are 2"),
        ({"runs_per_gpu": 2}, {"processes": 2}, "processes: 2 of a run need a GPU each, and runs_per_gpu=2"),
    ],
)
def test_runs_that_a_job_cannot_do_are_refused(launcher: dict[str, Any], config: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError) as refused:
        Slurm(**launcher).check([task(schedule={}), task(**config)])
    assert says in str(refused.value)


def test_processes_may_be_left_to_the_job() -> None:
    Slurm(nodes=2, gpus_per_node=4).check([task(), task(processes=None), task(processes=8)])
    Slurm(tasks_per_node=1).check([task(processes=2)])
    Slurm(runs_per_gpu=2).check([task(), task(processes=None)])


def test_a_plan_counts_the_processes_that_a_job_starts() -> None:
    (spread,) = as_started([task()], Slurm(nodes=2, gpus_per_node=4))
    assert spread.config == {**task().config, "processes": 8}
    (own,) = as_started([task(processes=2)], Slurm(tasks_per_node=1))
    assert own.config["processes"] == 2


def test_settings_with_time_to_train_are_taken() -> None:
    Slurm(timeout_min=4)
    Slurm(timeout_min=2, signal_delay_s=55, partition="batch", submitit_folder="unused")
