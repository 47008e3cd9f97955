"""What a study of hundreds of runs costs before its first one, and where nothing is left to do: cells share much."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest

from tests.bench.rows import Note
from tests.results.studies import results
from tests.running import command
from tests.sweep.test_compose import hydra, sweeper  # noqa: F401 - a fixture

SETS = "dermamnist,octmnist,organamnist,pathmnist,bloodmnist,eurosat,dtd,food101,aid,flavia,cub200"
OBJECTIVES = "method=diet,simclr,lejepa,mae"
STUDY = ("sweeps=continued_pretraining", OBJECTIVES, f"dataset={SETS}")
BACKBONES = "model=dinov3,clip,mae"  # DINOv3 in two sizes


def cpu_seconds(folder: Path, *words: str) -> tuple[float, str]:
    """Return the CPU seconds of a command, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DINODIET_DATA": str(folder / "data")}
    done = subprocess.run(
        command(folder, "-m", *words), env=environment, cwd=folder, check=True, capture_output=True, text=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def finish(folder: Path, *words: str) -> int:
    """Write the results of every run of a grid, as if all had finished; return how many there are."""
    grid = sweeper(list(words), os.environ["OWN"])
    tasks = grid.tasks(grid.expand([*words, f"outputs_dir={folder}"]))
    for number, task in enumerate(tasks):
        settings = task.settings()
        made = results(seed=settings.seed, final=0.6 + number % 7 / 100)
        made |= {"run_id": task.cell.run_id, "choices": settings.choices, "config": settings.plain}
        made["evaluations"] = dict.fromkeys(task.wanted, True)
        task.run_dir.path.mkdir(parents=True)
        task.run_dir.results.write_text(json.dumps(made))
    return len(tasks)


@pytest.mark.bench
def test_a_study_of_528_runs_is_planned_in_a_minute_and_a_half(tmp_path: Path, note: Note) -> None:
    seconds, said = cpu_seconds(tmp_path, *STUDY, BACKBONES, "mode=plan")
    assert "528 runs: 528 missing" in said
    note("mode=plan of a study of 528 runs", f"{seconds:.1f} CPU seconds")
    assert seconds < 90


@pytest.mark.bench
@pytest.mark.parametrize(("backbones", "count", "most"), [("model=mae", 132, 5), (BACKBONES, 528, 15)])
def test_a_finished_study_answers(tmp_path: Path, backbones: str, count: int, most: float, note: Note) -> None:
    assert finish(tmp_path, *STUDY, backbones) == count
    took = []
    for _ in range(3):  # what else a machine does slows its threads
        seconds, said = cpu_seconds(tmp_path, *STUDY, backbones)
        assert f"{count} runs: {count} done" in said
        took.append(seconds)
    note(f"the command again, {count} finished runs", f"{min(took):.1f} CPU seconds")
    assert min(took) < most
