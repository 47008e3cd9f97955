"""Scores on budgets of labels, read back: rows of their own, never mixed, compared by pairs, drawn over labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dinodiet.results import collect
from dinodiet.results.__main__ import main
from dinodiet.results.budgets import on_budgets, picked
from dinodiet.results.compare import compare
from dinodiet.results.figures import label_curves_figure
from dinodiet.results.label_curves import label_curves
from dinodiet.results.runs import read
from dinodiet.results.table import layout, place
from tests.results import studies

AMOUNTS, DRAWS = (5, 20), (0, 1)


def value(phase: str, method: str, seed: int, amount: int, draw: int) -> float:
    """Return a score that says where it is from; before the training neither method nor seed matter."""
    after = (0.1 if method == "dino" else 0.05) + 0.002 * seed if phase == "final" else 0.0
    return 0.3 + amount / 100 + draw / 1000 + after


def content(method: str, seed: int, *, whole: bool = True) -> dict[str, Any]:
    found = studies.results(method=method, seed=seed, initial=0.8, final=0.9)
    found["budgets"] = [
        {
            "evaluator": "knn", "phase": phase, "per_class": amount, "rule": "balanced", "seed": draw,
            "images": 9 * amount, "of": 900, "skipped": None, "settings": {"knn/k": 20.0},
            "test": {"knn/accuracy": value(phase, method, seed, amount, draw)}, "val": {"knn/accuracy": 0.1},
        }
        for phase in ("initial", "final") for amount in AMOUNTS for draw in DRAWS
    ]  # fmt: skip
    if not whole:
        found |= {phase: {"kmeans/ari": 0.5} for phase in ("initial", "final")}
        found["validation"] = {"initial": {}, "final": {}}
    return found


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for method in ("diet", "dino"):
        for seed in (0, 1):
            studies.write(tmp_path / "study", content(method, seed))
    return tmp_path / "study"


def test_every_budget_and_draw_has_rows_of_its_own(study: Path) -> None:
    frame = collect(study)
    knn = frame[frame["metric"] == "knn/accuracy"]
    assert len(knn) == 4 * 3 * (1 + len(AMOUNTS) * len(DRAWS))
    whole = knn[knn["labels_per_class"].isna()]
    assert whole["label_seed"].isna().all() and set(whole["value"].round(3)) == {0.8, 0.9, 0.1}
    one = knn.query("method == 'dino' and seed == 1 and labels_per_class == 20 and label_seed == 1")
    assert one.set_index("phase")["value"]["final"] == pytest.approx(value("final", "dino", 1, 20, 1))
    assert len(frame[frame["metric"] == "train_seconds"]) == 4
    assert len(collect(study, where={"labels_per_class": 5}).query("metric == 'knn/accuracy'")) == 4 * 3 * 2


def test_sides_of_a_draw_that_were_measured_differently_are_not_subtracted(tmp_path: Path) -> None:
    found = content("dino", 0)
    for row in found["budgets"]:
        row["refused"] = "another lr" if (row["per_class"], row["seed"]) == (5, 1) else None
    studies.write(tmp_path, found)
    change = collect(tmp_path).query("metric == 'knn/accuracy' and phase == 'change'")
    unknown = change[change["value"].isna()]
    assert len(change) == 5 and unknown[["labels_per_class", "label_seed"]].to_numpy().tolist() == [[5, 1]]


def test_the_tidy_table_leaves_columns_of_budgets_empty_on_all_labels_alone(study: Path, tmp_path: Path) -> None:
    assert main([str(study), "--tidy", str(tmp_path / "scores.csv")]) == 0
    text = (tmp_path / "scores.csv").read_text()
    frame = pd.read_csv(tmp_path / "scores.csv")
    columns = ["labels_per_class", "label_seed"]
    assert frame["label_fraction"].isna().all() and "None" not in text and "nan" not in text.lower()
    on_all = frame[columns].isna().all(axis=1)
    assert (frame[columns].isna().any(axis=1) == on_all).all()  # both or neither
    others = frame[~frame["metric"].isin(["knn/accuracy", "val/knn/accuracy"])]
    assert len(others) and others[columns].isna().all(axis=None)  # costs, and evaluators without budgets
    assert frame["value"].notna().all()


def test_without_budgets_there_are_no_columns_of_them(tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    assert not [name for name in collect(tmp_path).columns if "label" in name]
    runs = read([tmp_path]).runs
    assert on_budgets(runs) == runs == picked(runs)


def test_a_table_shows_all_labels_unless_asked(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def cells(*words: str) -> list[list[str]]:
        assert main([str(study), "--metric", "knn/accuracy", "--phase", "final", *words]) == 0
        lines = capsys.readouterr().out.splitlines()
        return [line.split() for line in lines if "dinov2-base" in line] + [
            [line] for line in lines if "fitted" in line
        ]

    first = cells()
    assert [line[2:] for line in first[:2]] == [["0.900", "±", "0.000", "(2)", "*"]] * 2
    assert "all; others: --labels 5,20" in first[2][0]
    mean = sum(value("final", "dino", seed, 5, draw) for seed in (0, 1) for draw in DRAWS) / 4
    few = cells("--labels", "5")
    assert few[1][:3] == ["dino", "dinov2-base", f"{mean:.3f}"] and few[1][5] == "(4)"
    both = cells("--labels", "5,all")
    assert sorted(line[1] for line in both[:-1]) == ["5", "5", "all", "all"]
    assert main([str(study), "--labels", "7"]) == 1
    assert "labels: no run has 7; there are: 5, 20, all" in capsys.readouterr().err


def test_runs_without_all_labels_are_shown_by_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        studies.write(tmp_path / "study", content("diet", seed, whole=False))
    assert main([str(tmp_path / "study"), "--phase", "final"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "dinov2-base" in line]
    assert [(row[0], row[-1]) for row in rows] == [("5", "(4)"), ("20", "*")] or len(rows) == 2


def test_differences_are_paired_by_seed_and_draw(study: Path) -> None:
    runs = picked(read([study]).runs, ["20"])
    plan = layout(runs, over=["seed", "label_seed"], metrics=["knn/accuracy"])
    found = compare(runs, "method", ["diet", "dino"], metric="knn/accuracy", over=plan.over)
    assert found.pairs["n"].tolist() == [4]
    assert found.pairs["difference"].iloc[0] == pytest.approx(0.05)
    assert not found.unpaired


def test_curves_over_labels_count_each_frozen_score_once(study: Path) -> None:
    runs = read([study]).runs
    data = label_curves(runs, "labels_per_class", "knn/accuracy", place(runs, over=["seed"]))
    before = data[data["arm"] == "before"]
    assert before["method"].tolist() == [""] * 3
    assert before["labels"].tolist() == [5, 20, 100]  # all: 900 images of 9 classes
    assert before["n"].tolist() == [2, 2, 1]
    after = data[(data["arm"] == "after") & (data["method"] == "dino")]
    assert after["n"].tolist() == [4, 4, 2]
    assert after["low"].notna().all()
    assert before["low"].isna().tolist() == [False, False, True]


def test_what_was_measured_otherwise_is_neither_subtracted_nor_drawn_as_before(tmp_path: Path) -> None:
    found = content("diet", 0)
    for row in found["budgets"]:
        row["refused"] = "measured differently: lr" if (row["per_class"], row["seed"]) == (5, 0) else None
    studies.write(tmp_path, found)
    change = collect(tmp_path).query("metric == 'knn/accuracy' and phase == 'change' and labels_per_class == 5")
    assert change.set_index("label_seed")["value"].isna().to_dict() == {0: True, 1: False}
    runs = read([tmp_path]).runs
    curves = label_curves(runs, "labels_per_class", "knn/accuracy", place(runs, over=["seed"]))
    assert curves[curves["labels"] == 5].set_index("arm")["n"].to_dict() == {"before": 1, "after": 2}


@pytest.mark.parametrize("suffix", [".svg", ".png", ".csv"])
def test_curves_are_written(study: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"labels{suffix}"
    assert main([str(study), "--curves", str(path), "--over", "labels_per_class"]) == 0
    assert path.stat().st_size > 500


def test_the_legend_of_curves_fits_into_the_figure(study: Path) -> None:
    runs = read([study]).runs
    plan = place(runs, over=["seed"])
    data = label_curves(runs, "labels_per_class", "knn/accuracy", plan)
    figure = label_curves_figure(data, "labels_per_class", "knn/accuracy", plan)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1


def test_curves_without_budgets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    studies.write(tmp_path / "study", studies.results())
    assert main([str(tmp_path / "study"), "--curves", str(tmp_path / "a.svg"), "--over", "label_fraction"]) == 1
    assert "label_fraction: no run has scores on it" in capsys.readouterr().err
