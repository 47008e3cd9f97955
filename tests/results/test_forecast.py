"""Forecasts of studies whose answer is known: gains that follow a measure, and gains that follow nothing."""

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dinodiet.results.__main__ import main
from dinodiet.results.forecast import judge
from dinodiet.store.grid import write_grid
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import ScoreFile, write_scores
from tests.results import studies

DATASETS = ("dermamnist", "pathmnist", "octmnist", "bloodmnist", "breastmnist", "organamnist")
MODELS = ("dinov3-base", "clip-base", "mae-base")


def study(
    folder: Path, noise: float, slope: float = 0.05, waits: str = "organamnist", seed: int = 3
) -> dict[str, float]:
    """Write a study whose gains follow a measure but for noise; runs of a data set wait. Return the gains of those."""
    draw = random.Random(seed)
    cells, left = [], {}
    for model, dataset, method in itertools.product(MODELS, DATASETS, ("diet", "dino")):
        uniformity, rank = draw.uniform(-3, -1), draw.uniform(5, 500)
        gain = slope * (uniformity + 2) + 0.02 * (method == "dino") + draw.gauss(0, noise)
        for number in range(2):
            content = measured(studies.results(model, dataset, method, number, 0.5, 0.5 + gain), uniformity, rank)
            cells.append(studies.cell(content))
            if dataset == waits:
                left[content["run_id"]] = gain
                scores(folder, content)
            else:
                studies.write(folder, content)
    write_grid(folder, cells)
    return left


def measured(content: dict[str, Any], uniformity: float, rank: float) -> dict[str, Any]:
    before = {"geometry/uniformity": uniformity, "geometry/rankme": rank, "geometry/alpha": 1.0}
    content["initial"] |= before
    return {**content, "of_train": ["geometry"], "finished": 4e9}


def scores(folder: Path, content: dict[str, Any]) -> None:
    """Write what a run that goes on has: its scores before the training."""
    run = studies.write_status(folder, content["run_id"], state="preempted", reason="told to stop")
    told = {name.partition("/")[2]: value for name, value in content["initial"].items() if name.startswith("geometry")}
    test = {name: {"value": value, "better": "none", "kind": "metric"} for name, value in told.items()}
    file = ScoreFile("initial_geometry", "geometry", "initial", {}, test=test, of_train=True)
    write_scores(RunDir(run), file)


def told(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert main([str(folder), "--forecast", *options]) == 0
    return capsys.readouterr().out


def test_a_gain_that_follows_a_measure_is_forecast(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = study(tmp_path, noise=0)
    out = told(tmp_path, capsys)
    assert "fitted on 30 finished cells on 5 data sets" in out and "mean absolute error 0.000; of the base" in out
    assert "sign right in 30 of 30" in out and "\n  better than the base rate" in out
    assert f"{len(left)} new forecasts written to" in out
    assert "by backbone: too few data sets, 5 at the most; needed are 8" in out
    kept = json.loads((tmp_path / "forecast.json").read_text())["forecasts"]
    assert {one["run"]: one["gain"] for one in kept} == pytest.approx(left, abs=1e-4)
    assert all((one["probability"] > 0.99) == (left[one["run"]] > 0) for one in kept)


def test_noise_is_not_forecast_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(tmp_path, noise=0.05, slope=0, seed=1)
    assert "not better than the base rate" in told(tmp_path, capsys)


def test_noise_is_called_better_as_rarely_as_said_and_a_signal_as_a_rule() -> None:
    noise = [judge(drawn(seed, slope=0.0), ["a", "b", "c"]) for seed in range(12)]
    assert sum(one.better for one in noise) <= 2
    assert sum(one.error for one in noise) > 0.95 * sum(one.base_error for one in noise)
    signal = [judge(drawn(seed, slope=0.05), ["a", "b", "c"]) for seed in range(12)]
    assert sum(one.better for one in signal) >= 8


def drawn(seed: int, slope: float) -> pd.DataFrame:
    """Return 36 cells of 6 data sets whose gains follow the first of three measures, with noise of 0.02."""
    draw = random.Random(seed)
    rows = []
    for _, dataset, method in itertools.product(range(3), DATASETS, ("diet", "dino")):
        measures = {name: draw.uniform(-1, 1) for name in "abc"}
        gain = slope * measures["a"] + 0.02 * (method == "dino") + draw.gauss(0, 0.02)
        rows.append({"dataset": dataset, "method": method, **measures, "gain": gain})
    return pd.DataFrame(rows)


def test_a_forecast_is_kept_and_scored_once_its_run_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = study(tmp_path, noise=0)
    told(tmp_path, capsys)
    before = (tmp_path / "forecast.json").read_bytes()
    names = sorted(left)
    for name, gain in zip(names[:4], (0.3, -0.3, 0.3, -0.3), strict=True):  # unlike all that was to be expected
        _, model, dataset, method, seed = re.fullmatch(r"((.+)_(.+)_(.+)_seed(\d))_.*", name).groups()  # type: ignore[union-attr]
        content = measured(studies.results(model, dataset, method, int(seed), 0.5, 0.5 + gain), -2.0, 50.0)
        assert content["run_id"] == name
        studies.write(tmp_path, {**content, "finished": 4e9 if name != names[3] else 1.0})
    out = told(tmp_path, capsys)
    assert (tmp_path / "forecast.json").read_bytes() == before
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line.startswith(tuple(names))}
    assert rows[names[0]][2:] == ["+0.300", "yes" if left[names[0]] > 0 else "no"]
    assert rows[names[1]][2:] == ["-0.300", "yes" if left[names[1]] < 0 else "no"]
    assert "written too late" in " ".join(rows[names[3]]) and len(rows[names[5]]) == 2
    right = sum((left[name] > 0) == (gain > 0) for name, gain in zip(names[:3], (0.3, -0.3, 0.3), strict=True))
    error = sum(abs(left[name] - gain) for name, gain in zip(names[:3], (0.3, -0.3, 0.3), strict=True)) / 3
    assert f"of 3 that have ended {right} came true" in out and f"mean absolute error {error:.3f}, of the base" in out


def test_a_forecast_that_was_changed_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = study(tmp_path, noise=0)
    told(tmp_path, capsys)
    file = tmp_path / "forecast.json"
    content = json.loads(file.read_text())
    content["forecasts"][0]["gain"] += 0.1
    file.write_text(json.dumps(content))
    assert main([str(tmp_path), "--forecast"]) == 1
    assert f"the forecast of {content['forecasts'][0]['run']} was changed" in capsys.readouterr().err
    assert len(left) == len(content["forecasts"])


def test_too_few_cells_are_told_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for dataset in DATASETS[:2]:
        studies.write(tmp_path, measured(studies.results(dataset=dataset), -2, 40))
    studies.write(tmp_path, studies.results(seed=1))
    assert "2 on 2 data sets" in (out := told(tmp_path, capsys)) and "needed are 10 on 3" in out
    assert not (tmp_path / "forecast.json").exists()
    (other := tmp_path / "other").mkdir()
    studies.write(other, studies.results())
    assert "no label-free measures before the training" in told(other, capsys)
