"""Recorded numbers read back: tidy, as curves over seeds, and only what was asked for."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from dinodiet.results.__main__ import main
from dinodiet.store.records import RecordFiles
from tests.results import studies


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Return a study of two seeds with a record; the second lacks a column."""
    study = tmp_path / "study"
    for seed in (0, 1):
        run = studies.write(study, studies.results(seed=seed))
        files = RecordFiles(run / "records" / "parameters")
        for step in (5, 10):
            own = {"head/norm": 1.0} if seed == 0 else {}
            files.add([{"step": step, "epoch": step / 10, "model/norm": step + 2.0 * seed, "model/rms": 0.5, **own}])
        files.flush()
        images = RecordFiles(run / "records" / "saved_features")
        images.add([{"step": 5, "epoch": 0.5, "image": 0, "student/embeddings": [0.5, 1.0]}])
        images.flush()
    return study


def test_the_table_is_tidy(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "norms.csv"
    assert main([str(study), "--record", "parameters", "--columns", "*/norm", "--out", str(out)]) == 0
    frame = pd.read_csv(out)
    assert list(frame.columns[-4:]) == ["step", "epoch", "column", "value"]
    found = {(row.seed, row.step, row.column): row.value for row in frame.itertuples()}
    model = {(seed, step, "model/norm"): step + 2.0 * seed for seed in (0, 1) for step in (5, 10)}
    assert found == {**model, (0, 5, "head/norm"): 1.0, (0, 10, "head/norm"): 1.0}


def test_curves_are_means_over_seeds_in_a_panel_a_column(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "curves.csv"
    words = ["--record", "parameters", "--columns", "*/norm", "--curves"]
    assert main([str(study), *words, str(out)]) == 0
    frame = pd.read_csv(out).query("column == 'model/norm'")
    assert frame[["epoch", "mean", "n"]].to_numpy().tolist() == [[0.5, 6.0, 2], [1.0, 11.0, 2]]
    assert main([str(study), *words, str(tmp_path / "curves.png")]) == 0
    assert (tmp_path / "curves.png").stat().st_size > 1000


def test_the_ends_are_printed(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study), "--record", "parameters"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["model/norm", "2", "6", "11"] in lines and ["head/norm", "1", "1", "1"] in lines


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--record", "losses"), "--record losses: no run has it; choose from: parameters, saved_features"),
        (("--record", "parameters", "--columns", "*/nrm"), "--columns */nrm: no such column; choose from: model/norm,"),
        (("--record", "saved_features"), "--record saved_features: holds lists, a row an image; pandas.read_parquet("),
        (("--columns", "a"), "--columns: of a record; name one: --record parameters"),
        (("--record", "parameters", "--out", "a.tex"), "a.tex: ends in '.tex'; choose from: .csv, .parquet"),
    ],
)
def test_what_is_not_there_is_told(
    study: Path, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(study), *words]) == 1
    assert f"error: {told}" in capsys.readouterr().err


def test_the_disk_shows_records(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study), "--disk"]) == 0
    assert any(line.split()[:3] == ["records", "4", "files"] for line in capsys.readouterr().out.splitlines())
