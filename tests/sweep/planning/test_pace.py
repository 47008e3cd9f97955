"""How long a training takes is told by the last rate that was measured of its kind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dinodiet.config.identity import rate_id
from dinodiet.config.rates import Rate, write_rate
from dinodiet.io.files import write_json
from dinodiet.sweep.planning.pace import Pace, Paces, device_here
from dinodiet.sweep.planning.plan import plan
from dinodiet.sweep.task import Task

from .cells import cell


def finish(task: Task, speed: float, *, age: float = 0, **changes: Any) -> None:
    """Write the results of a run that trained at so many images a second, so many seconds ago."""
    settings = task.settings()
    facts = {"images_per_second": speed, "device": device_here(settings), "processes": 1}
    write_json(task.run_dir.results, {**facts, "choices": settings.choices, "config": settings.plain, **changes})
    os.utime(task.run_dir.results, (1e9 - age, 1e9 - age))


def seconds(task: Task, steps: int = 12) -> float | None:
    pace = Paces().of(task.settings())
    return None if pace is None else steps * pace.step


def test_the_last_finished_run_of_any_study_tells(tmp_path: Path) -> None:
    task = cell(tmp_path, "seed=9", "schedule.epochs=7")
    assert seconds(task) is None
    finish(cell(tmp_path, "name=other", "seed=1", "model.weights=hub"), 8.0, age=5)
    assert seconds(task) == 12 * 16 / 8
    finish(cell(tmp_path, "name=third", "dataset.limit=100", "dataset.image_size=32"), 4.0, age=9)
    assert seconds(task) == 12 * 16 / 8
    finish(cell(tmp_path, "seed=2", "schedule.lr=0.5"), 2.0)
    assert seconds(task) == 12 * 16 / 2


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        (["method.trainable=all"], {}),
        (["model.patch_size=4"], {}),
        (["dataset.image_size=64"], {}),
        (["schedule.batch_size=32"], {}),
        (["schedule.accumulate=2"], {}),
        (["precision=bf16"], {}),
        (["grad_checkpointing=true"], {}),
        ([], {"device": "cuda:0 (NVIDIA H100)"}),
        ([], {"processes": 2}),
        ([], {"images_per_second": None}),
        ([], {"config": {"model": 3}}),
        ([], {"config": None}),
    ],
)
def test_another_kind_of_training_tells_nothing(words: list[str], changes: dict[str, Any], tmp_path: Path) -> None:
    finish(cell(tmp_path, "seed=1", *words), 8.0, **changes)
    assert seconds(cell(tmp_path)) is None


def test_a_rate_of_several_processes_is_that_of_as_many(tmp_path: Path) -> None:
    finish(cell(tmp_path, "seed=1", "processes=null"), 8.0, processes=2)
    assert seconds(cell(tmp_path, "processes=2")) == 12 * 16 / 8
    assert seconds(cell(tmp_path, "processes=4")) is None
    assert seconds(cell(tmp_path, "processes=2", "strategy=fsdp")) is None


def test_what_was_measured_on_purpose_comes_first(tmp_path: Path) -> None:
    task = cell(tmp_path)
    settings, device = task.settings(), device_here(task.settings())
    assert device is not None
    finish(cell(tmp_path, "seed=1"), 8.0)
    write_rate(settings.study, rate_id(settings), Rate(0.25, 4, "cuda:3 (NVIDIA H100)"))
    assert seconds(task) == 12 * 16 / 8
    write_rate(settings.study, rate_id(settings), Rate(0.25, 4, device))
    assert seconds(task) == 3.0
    assert seconds(cell(tmp_path, "processes=2")) is None


def test_a_gpu_that_is_not_here_has_no_rate(tmp_path: Path) -> None:
    finish(cell(tmp_path, "seed=1"), 8.0)
    assert seconds(cell(tmp_path, "device=cuda:7")) is None


def test_on_other_machines_any_device_of_the_kind_tells(tmp_path: Path) -> None:
    task = cell(tmp_path)
    spent = {"seconds": 100.0, "device_seconds": 400.0, "joules": 50_000.0, "starts": 2}
    finish(cell(tmp_path, "seed=1"), 8.0, device="cuda:3 (NVIDIA H100)", train_seconds=70.0, spent=spent)
    assert Paces("cuda").of(task.settings()) == Pace(2.0, "cuda (NVIDIA H100)", rest=30.0, devices=4.0, watts=500.0)
    assert Paces("cpu").of(task.settings()) is None
    write_rate(task.settings().study, rate_id(task.settings()), Rate(0.25, 4, "cuda:0 (NVIDIA A100)"))
    assert Paces("cuda").of(task.settings()) == Pace(0.25, "cuda (NVIDIA H100)", rest=30.0, devices=4.0, watts=500.0)
    finish(cell(tmp_path, "seed=2"), 4.0, device="cpu (64 threads)")
    assert Paces("cpu").of(task.settings()) == Pace(4.0, "cpu (64 threads)")


def test_the_plan_sums_times_and_says_what_it_lacks(tmp_path: Path) -> None:
    tasks = [cell(tmp_path, f"seed={seed}") for seed in range(3)]
    finish(tasks[0], 1.6, evaluations=dict.fromkeys(tasks[0].wanted, True))  # done
    write_json(tasks[1].run_dir.status, {"state": "killed", "reason": "preempted", "step": 3, "total_steps": 12})
    lines = plan([*tasks, cell(tmp_path, "method=diet_dual")], full=True).splitlines()
    assert [line.partition("peak  ")[2][:15].strip() for line in lines[1:5]] == ["time 2 min 0 s"] * 3 + ["time ?"]
    assert lines[6].startswith("6 min 0 s of training in all, 3 min 30 s of it to do, at rates measured on cpu (")
    assert lines[6].endswith("; 1 runs have no measured rate")


@pytest.mark.slow
def test_numbers_of_several_processes_say_so(tmp_path: Path) -> None:
    line, explained = (plan([cell(tmp_path, "processes=2", "strategy=fsdp")]).splitlines()[at] for at in (1, -1))
    assert line.endswith("time ?  each of 2 processes (fsdp)")
    assert explained.endswith("of several processes that of the first, and no other takes more")
    alone = plan([cell(tmp_path)])
    assert "processes" not in alone
