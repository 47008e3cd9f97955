import json
from pathlib import Path
from typing import Any

import pytest

from tests.running import TINY, launch


def grid_of(tmp_path: Path) -> list[dict[str, Any]]:
    (path,) = tmp_path.glob("*/.sweep/grid.json")
    cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return cells


REFUSED = {
    "unknown option": (["model=mae,nomodel"], "1 of 2 runs are refused, nothing is started: model=nomodel"),
    "bad value": (["schedule.batch_size=8,0"], "1 of 2 runs are refused"),
    "text for a number": (["seed=0,x"], "1 of 2 runs are refused, nothing is started: seed=x: seed: 'x'; must be"),
    "one mistake of several cells": (
        ["seed=0,1", "schedule.lr=[1e-3]"],
        "2 of 2 runs are refused, nothing is started: seed=0, seed=1: schedule.lr: [0.001]; must be",
    ),
    "a part left out": (["seed=0,1", "~method.views"], "method.views: left out; method needs it"),
    "a group left out": (["seed=0,1", "~dataset"], "dataset: one choice is needed; choose from"),
    "no values": (["seed=range(0,0)"], "seed=range(0,0): no values"),
    "no step": (["seed=range(0,3,0)"], "seed=range(0,3,0): "),
    "brackets": (["seed=0,1", "x=["], "x=[: cannot be read as key=value"),
    "no such sweep": (["sweeps=nope"], "sweeps: no choice 'nope'; choose from: "),
    "no launcher": (["hydra.launcher=null", "seed=0"], "hydra/launcher: None names no _target_"),
    "an interval": (["schedule.lr=interval(0,1)"], "an interval is no grid"),
    "two modes": (["mode=plan,train"], "mode: plan, train; all runs of a grid have one"),
    "parameters that are none": (["hydra.sweeper.params=3"], "hydra.sweeper.params: 3; must be keys with values"),
    "two studies": (["name=a,b", "schedule.epochs=0"], "a sweep lies in one study"),
    "a launcher of Hydra's": (["hydra/launcher=basic", "seed=0,1"], "hydra/launcher: 'basic' is none of"),
    "retry": (["retry=all", "seed=0,1"], "retry: 'all'; must be one of: failed or null"),
    "a short limit": (
        ["seed=0,1", "hydra/launcher=slurm", "hydra.launcher.timeout_min=2"],
        "hydra.launcher.signal_delay_s: 120 s before a limit",
    ),
    "an unknown launcher key": (
        ["seed=0,1", "hydra/launcher=slurm", "hydra.launcher.queue=x"],
        "hydra.launcher.queue: no such key",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_impossible_grid_is_refused_whole(tmp_path: Path, case: str) -> None:
    overrides, says = REFUSED[case]
    done = launch(tmp_path, "-m", *overrides)
    assert done.returncode == 1
    assert says in done.stderr, done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    assert not list(tmp_path.glob("*/*/*"))


def test_reasons_have_a_line_each_below_a_short_one_that_names_the_keys(tmp_path: Path) -> None:
    done = launch(tmp_path, "-m", "schedule.batch_size=8,0,-1", "seed=0,1,2,3")
    assert done.returncode == 1
    first, *lines = done.stderr.splitlines()
    assert first == "error: 8 of 12 runs are refused, nothing is started, for 2 reasons: schedule.batch_size"
    assert [line.partition("schedule.batch_size: ")[0] for line in lines] == [
        f"  4 runs: schedule.batch_size={value} seed=0, schedule.batch_size={value} seed=1, "
        f"schedule.batch_size={value} seed=2 and 1 more: "
        for value in (0, -1)
    ]
    assert not list(tmp_path.glob("*/*/*"))


def test_the_settings_of_a_site_win_over_the_preset(tmp_path: Path) -> None:
    (tmp_path / "mine" / "site").mkdir(parents=True)
    (tmp_path / "mine" / "site" / "slurm.yaml").write_text("timeout_min: 2\n")
    done = launch(tmp_path, "--config-dir", str(tmp_path / "mine"), "-m", "hydra/launcher=slurm", "seed=0,1")
    assert done.returncode == 1
    assert "hydra.launcher.signal_delay_s: 120 s before a limit" in done.stderr


def test_options_that_exclude_each_other_are_one_line(tmp_path: Path) -> None:
    done = launch(tmp_path, "-m", "--cfg", "job")
    assert done.returncode == 1
    assert done.stderr.startswith("error: Only one of --run, --multirun, --cfg")
    assert done.stderr.count("\n") == 1


def test_without_m_a_sweep_and_its_launcher_are_refused(tmp_path: Path) -> None:
    done = launch(tmp_path, "sweeps=smoke")
    assert done.returncode == 1
    assert "python launch.py -m sweeps=smoke" in done.stderr
    done = launch(tmp_path, "hydra/launcher=parallel")
    assert done.returncode == 1
    assert "add -m" in done.stderr


LAUNCHER = """
from dinodiet.sweep.task import execute


class Backwards:
    in_process = True

    def __init__(self, *, greeting: str):
        self.greeting = greeting

    def run(self, tasks, progress):
        for task in reversed(tasks):
            print(self.greeting, task.cell.seed)
            execute(task)
"""


def test_a_launcher_of_ones_own_is_one_yaml_and_one_class(tmp_path: Path) -> None:
    (tmp_path / "launcher_of_mine.py").write_text(LAUNCHER)
    (tmp_path / "mine" / "hydra" / "launcher").mkdir(parents=True)
    file = tmp_path / "mine" / "hydra" / "launcher" / "backwards.yaml"
    file.write_text("_target_: launcher_of_mine.Backwards\ngreeting: now comes\n")
    own = ("--config-dir", str(tmp_path / "mine"), "-m", "hydra/launcher=backwards")
    done = launch(tmp_path, *own, *TINY, "schedule.epochs=0", "seed=0,1", "hydra.launcher.greeting=here is")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("here is 1") < done.stdout.index("here is 0")
    assert "2 runs: 2 done" in done.stdout
    refused = launch(tmp_path, *own, *TINY, "seed=0,1", "hydra.launcher.greting=x")
    assert "hydra.launcher.greting: no such key" in refused.stderr


@pytest.mark.slow
def test_every_backbone_of_a_sanity_check_passes_or_fails_by_name(tmp_path: Path) -> None:
    grid = ("mode=sanity", "+model.published={digits: {knn/accuracy: 0.01}},{digits: {knn/accuracy: 0.99}}")
    done = launch(tmp_path, "-m", *TINY, *grid)
    assert done.returncode == 1
    assert "sanity: 1 of 2 passed" in done.stdout
    table = done.stdout.partition("verdict")[2].partition("chart in")[0].splitlines()
    assert [row.split()[-1] for row in table if row.startswith("vit-tiny on digits")] == ["pass", "FAIL"]
    assert done.stdout.count("  passed  ") == done.stdout.count("  FAILED  ") == 1
    assert "below the published knn/accuracy" in done.stdout.partition("FAILED")[2]
    assert "mode=sanity: 1 of 2 failed" in done.stderr


@pytest.mark.slow
def test_a_sweep_file_and_the_command_line(tmp_path: Path) -> None:
    """The command line replaces keys of the file, adds others; and doubled cells are one."""
    extra = ("model=vit_tiny,vit_tiny", "seed=range(2)", "method=diet", "name=mine")
    tiny = [word for word in TINY if not word.startswith("model=")]  # model.patch_size is unknown to the default model
    done = launch(tmp_path, "-m", "sweeps=smoke", *extra, *tiny)
    assert done.returncode == 0, done.stderr
    assert [(cell["choices"]["model"], cell["choices"]["method"], cell["seed"]) for cell in grid_of(tmp_path)] == [
        ("vit_tiny", "diet", 0),
        ("vit_tiny", "diet", 1),
    ]
    assert "2 runs: 2 done" in done.stdout
    assert "knn/accuracy" in done.stdout.rpartition("2 runs")[2]
    results = [json.loads(path.read_text()) for path in tmp_path.glob("mine/[!.]*/results.json")]
    assert {found["config"]["dataset"]["limit"] for found in results} == {64}


@pytest.mark.slow
def test_a_grid_of_evaluations_trains_once(tmp_path: Path) -> None:
    done = launch(tmp_path, "-m", *TINY, "eval.knn.k=3,5", "seed=0,1")
    assert done.returncode == 0, done.stderr
    for path in tmp_path.glob("*/*/results.json"):
        results = json.loads(path.read_text())
        assert {"knn/accuracy", "knn(k=5)/accuracy"} <= set(results["final"]) or "knn(k=3)/accuracy" in results["final"]
        assert json.loads(path.with_name("status.json").read_text())["starts"] == 2  # trained, then scored once more
    assert len(list(tmp_path.glob("*/*/results.json"))) == 2
