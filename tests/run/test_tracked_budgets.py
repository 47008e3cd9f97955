"""What trackers hear of scores on budgets of labels."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dinodiet.run.tracked_budgets import budget_means, write_budget_table
from dinodiet.run.trackers import NoTracker
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import ScoreFile, write_scores
from tests.running import composed, run

BUDGETS = ("eval.labels_per_class=[1,2,all]", "eval.label_seeds=2", "eval.knn.k=1", "schedule.epochs=1")


class Heard(NoTracker):
    """Remembers the final scores and the tables."""

    summary: ClassVar[dict[str, float]] = {}
    tables: ClassVar[dict[str, str]] = {}

    def table(self, name: str, path: Path) -> None:
        Heard.tables[name] = path.read_text()

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        Heard.summary.update(summary)


def test_trackers_hear_of_every_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heard, "summary", {})
    monkeypatch.setattr(Heard, "tables", {})
    results = run(composed(tmp_path, *BUDGETS, f"tracker._target_={__name__}.Heard"))
    rows = [row for row in results["budgets"] if (row["per_class"], row["phase"]) == (2, "final")]
    values = [row["test"]["knn/accuracy"] for row in rows]
    assert len(values) == 2 and Heard.summary["final/labels_per_class=2/knn/accuracy"] == sum(values) / 2
    assert Heard.summary["final/knn/accuracy"] == results["final"]["knn/accuracy"]
    table = list(csv.DictReader(Heard.tables["labels"].splitlines()))
    found = [
        row for row in table if (row["labels_per_class"], row["phase"], row["metric"]) == ("2", "final", "knn/accuracy")
    ]
    assert [(row["draw"], float(row["value"])) for row in found] == [("0", values[0]), ("1", values[1])]
    assert len(table) == 2 * 2 * 2 * len(rows[0]["test"])


def test_trackers_hear_of_budgets_that_are_added_to_a_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Heard, "summary", {})
    monkeypatch.setattr(Heard, "tables", {})
    run(composed(tmp_path, "schedule.epochs=1", "eval.knn.k=1"))
    results = run(composed(tmp_path, *BUDGETS, f"tracker._target_={__name__}.Heard"))
    assert Heard.summary.keys() >= {"final/labels_per_class=2/knn/accuracy", "initial/labels_per_class=1/knn/accuracy"}
    assert Heard.summary["final/knn/accuracy"] == results["final"]["knn/accuracy"]
    assert Heard.tables["labels"].count("\n") == 1 + sum(len(row["test"]) for row in results["budgets"])


def test_names_tell_kind_and_rule_and_a_missing_draw_leaves_its_mean_missing() -> None:
    def row(value: float | None, **budget: Any) -> dict[str, Any]:
        return {"phase": "final", "seed": 0, "test": {"knn/accuracy": value}, **budget}

    found = budget_means(
        [
            row(0.5, fraction=0.1, rule="proportional"),
            row(0.25, per_class=5, rule="proportional"),
            *(row(value, per_class=1, rule="balanced") for value in (0.5, None)),
        ]
    )
    assert math.isnan(found.pop("final/labels_per_class=1/knn/accuracy"))
    assert found == {
        "final/label_fraction=0.1/knn/accuracy": 0.5,
        "final/labels_per_class=5,proportional/knn/accuracy": 0.25,
    }


def test_without_budgets_there_is_no_table(tmp_path: Path) -> None:
    whole = ScoreFile("a", "knn", "final", {}, test={"accuracy": {"value": 0.5, "better": "higher", "kind": "metric"}})
    write_scores(RunDir(tmp_path), whole)
    write_budget_table(RunDir(tmp_path))
    assert not list(tmp_path.rglob("*.csv"))
