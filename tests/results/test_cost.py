"""What a study has cost, against sums by hand."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dinodiet.results.__main__ import main
from dinodiet.results.cost import cost
from dinodiet.results.runs import read
from dinodiet.store.grid import write_grid
from tests.results import studies

HOUR, TENTH_KWH = 3600.0, 360_000.0  # seconds, joules
GPU = "cuda (NVIDIA H100 80GB HBM3)"


def spent(hours: float, tenths: float | None, gpus: int = 1) -> dict[str, Any]:
    seconds, joules = hours * HOUR, None if tenths is None else tenths * TENTH_KWH
    return {"seconds": seconds, "device_seconds": gpus * seconds, "joules": joules, "starts": 1}


def study(folder: Path) -> None:
    """Write DIET with two finished runs, one half done and one missing, and a DINO run whose energy is unknown."""
    runs = [studies.results("mae", "pathmnist", "diet", seed) | {"device": GPU} for seed in range(4)]
    for run, hours in zip(runs, (1, 2), strict=False):
        studies.write(folder, run | {"spent": spent(hours, hours), "train_seconds": 0.5 * hours * HOUR})
    half = {"state": "preempted", "starts": 1, "step": 50, "total_steps": 100, "spent": spent(0.5, 0.5)}
    studies.write_status(folder, runs[2]["run_id"], **half)
    other = studies.results("mae", "pathmnist", "dino", 0)
    studies.write(folder, other | {"spent": spent(2, None, gpus=4), "processes": 4, "train_seconds": HOUR})
    write_grid(folder, [studies.cell(run) for run in (*runs, other)])


def test_sums_are_those_by_hand(tmp_path: Path) -> None:
    study(tmp_path)
    rows = cost(read([tmp_path])).rows.set_index("method")
    assert rows.loc["diet", ["runs", "done"]].tolist() == [4, 2]
    assert rows.loc["diet", ["device hours", "training", "kWh"]].tolist() == pytest.approx([3.5, 1.5, 0.35])
    assert rows.loc["diet", ["device hours left", "kWh left"]].tolist() == pytest.approx([1.5 * 1.5, 1.5 * 0.15])
    assert rows.loc["diet", "device"] == "NVIDIA H100 80GB HBM3"
    assert rows.loc["dino", ["device hours", "training", "device hours left"]].tolist() == [8, 4, 0]
    assert pd.isna(rows.loc["dino", "kWh"]) and rows.loc["dino", "device"] == "CPU"
    total = rows.iloc[-1]
    assert total["model"] == "all" and total["runs"] == 5
    assert total[["device hours", "kWh", "device hours left"]].tolist() == pytest.approx([11.5, 0.35, 2.25])


def test_it_is_told_with_what_is_unknown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(tmp_path)
    assert main([str(tmp_path), "--cost"]) == 0
    out = capsys.readouterr().out
    assert "note: kWh of 1 of 5 runs are unknown, and in no sum" in out
    assert "note: 2 unfinished runs are expected to take 2.2 device hours, 0.23 kWh more, as finished runs" in out
    assert [line.split()[:3] for line in out.splitlines()[2:4]] == [
        ["mae", "pathmnist", name] for name in ("diet", "dino")
    ]


def test_a_kind_without_finished_runs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    waiting = studies.results("mae", "pathmnist", "diet")
    write_grid(tmp_path, [studies.cell(waiting)])
    studies.write_status(tmp_path, waiting["run_id"], state="preempted", starts=1)  # of a version that did not count
    assert main([str(tmp_path), "--cost"]) == 0
    out = capsys.readouterr().out
    assert "hours of 1 of 1 runs are unknown" in out
    assert "1 of them are of a kind of which no finished run tells" in out


def test_rows_can_be_chosen_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(tmp_path / "study")
    file = tmp_path / "cost.csv"
    assert main([str(tmp_path / "study"), "--cost", "--where", "method=dino", "--out", str(file)]) == 0
    written = pd.read_csv(file)
    assert written["model"].tolist() == ["mae", "all"]
    assert written["device hours"].tolist() == [8, 8]
    assert main([str(tmp_path / "study"), "--cost", "--forecast"]) != 0
    assert "--cost: not with --forecast" in capsys.readouterr().err
    assert main([str(tmp_path / "study"), "--cost", "--where", "method=mae"]) == 1
    assert "method: no run has mae; there are: diet, dino" in capsys.readouterr().err
