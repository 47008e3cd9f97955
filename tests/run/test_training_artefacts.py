"""Tables and figures of a training below its artefacts, without a tracker."""

import csv
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dinodiet.results.score_rows import COLUMNS
from dinodiet.run import training_artefacts
from dinodiet.run.training_artefacts import write_training_artefacts
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import ScoreFile, write_scores

FIGURES, TABLES = {"progress.png", "validation_curves.png"}, {"initial_vs_final.csv", "validation.csv"}


@pytest.fixture
def trained(tmp_path: Path) -> RunDir:
    run_dir = RunDir(tmp_path)
    for phase, accuracy, ari in (("initial", 0.5, 0.0), ("final", 0.75, 0.25)):
        for name, metric, value in (("knn", "accuracy", accuracy), ("kmeans", "ari", ari)):
            entry: dict[str, Any] = {"value": value, "better": "higher", "kind": "metric"}
            val = {metric: entry} if name == "knn" else None
            write_scores(run_dir, ScoreFile(f"{phase}_{name}", name, phase, {}, test={metric: entry}, val=val))
    for epoch in (1, 2, 3):
        score = {"val/knn/accuracy": 0.6} if epoch == 2 else {}
        run_dir.append_metrics({"step": 4 * epoch, "epoch": epoch, "loss": 4.0 - epoch, "diet_loss": 3.0, **score})
    return run_dir


def table(run_dir: RunDir, name: str) -> list[dict[str, str]]:
    with (run_dir.artefacts / name).open(newline="") as stream:
        return [*csv.DictReader(stream)]


def test_a_table_tells_before_after_and_change(trained: RunDir) -> None:
    write_training_artefacts(trained, trained=True, figures=False)
    knn, ari = sorted(table(trained, "initial_vs_final.csv"), key=lambda row: row["metric"], reverse=True)
    assert tuple(knn) == COLUMNS
    assert [float(knn[name]) for name in COLUMNS[1:5]] == [0.5, 0.75, 0.25, 50.0]
    assert ari["change"] == "0.25" and ari["relative_change_percent"] == ""  # of 0 nothing is a percentage
    assert {path.name for path in trained.artefacts.iterdir()} == TABLES


def test_a_row_for_each_evaluated_epoch(trained: RunDir) -> None:
    write_training_artefacts(trained, trained=True, figures=False)
    rows = table(trained, "validation.csv")
    assert [float(row["epoch"]) for row in rows] == [0, 2, 3]
    assert [float(row["knn/accuracy"]) for row in rows] == [0.5, 0.6, 0.75]
    assert [float(row["knn/accuracy relative_change_percent"]) for row in rows] == pytest.approx([0, 20, 50])


def test_figures_are_drawn(trained: RunDir) -> None:
    write_training_artefacts(trained, trained=True, figures=True)
    assert {path.name for path in trained.artefacts.iterdir()} == TABLES | FIGURES
    for name in FIGURES:
        with Image.open(trained.artefacts / name) as image:
            colours = image.convert("RGB").getcolors(2**20)
            assert colours is not None and len(colours) > 10


def test_a_run_without_steps_writes_nothing(trained: RunDir) -> None:
    write_training_artefacts(trained, trained=False, figures=True)
    assert not trained.artefacts.exists()


def test_a_figure_that_cannot_be_drawn_costs_a_warning(
    trained: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no font")

    monkeypatch.setattr(training_artefacts, "progress_figure", fail)
    write_training_artefacts(trained, trained=True, figures=True)
    assert "warning: figures of the training could not be drawn: no font" in capsys.readouterr().err
    assert {path.name for path in trained.artefacts.iterdir()} == TABLES
