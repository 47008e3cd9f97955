import math
from typing import Any

from dinodiet.run import console
from dinodiet.store.scores import ScoreFile


def results(**changes: Any) -> dict[str, Any]:
    initial = {"knn/accuracy": 0.8, "kmeans/ari": 0.0}
    final = {"knn/accuracy": 0.9, "kmeans/ari": 0.25}
    settings = {"initial": {}, "final": {"knn/k": 20.0}}
    return {"initial": initial, "final": final, "settings": settings, "skipped": {"linear": "because"}, **changes}


def test_the_table_shows_absolute_and_relative_change() -> None:
    lines = console.results_table(results()).splitlines()
    assert lines[1].split() == ["knn/accuracy", "0.800", "0.900", "+0.100", "+12.5%"]
    assert lines[2].split() == ["kmeans/ari", "0.000", "0.250", "+0.250", "missing"]  # no change relative to zero
    assert lines[3].strip() == "linear is left out: because"
    assert lines[4].strip() == "(knn/k=20)"


def test_an_interval_stands_beside_the_final_score_it_belongs_to() -> None:
    known = {"initial": {}, "final": {"knn/accuracy": [0.8809, 0.9154]}}
    lines = console.results_table(results(intervals=known, diagnostics={"final": {"linear/train_accuracy": 1.0}}))
    head, knn, kmeans, *_, last = lines.splitlines()
    assert head.endswith("95 % of final") and knn.endswith("+12.5%  [0.881, 0.915]") and kmeans.endswith("missing")
    assert last.strip() == "(knn/k=20, linear/train_accuracy=1)"
    test = {"accuracy": {"value": 0.9, "better": "higher", "kind": "metric", "interval": [0.8809, 0.9154]}}
    assert "0.900  [0.881, 0.915]" in console.evaluation_table("t", [ScoreFile("k", "knn", "final", {}, test=test)])


def test_measures_of_train_are_not_titled_as_scores_of_test() -> None:
    both = {"knn/accuracy": 0.8, "geometry/rankme": 3.0}
    lines = console.results_table(results(initial=both, final=both, of_train=["geometry"], skipped={})).splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        ["test", "score"], ["knn/accuracy", "0.800"], ["score", "initial"], ["geometry/rankme", "3.000"],
    ]  # fmt: skip
    alone = console.results_table(results(initial=both, final={"geometry/rankme": 3.0}, of_train=["geometry"]))
    assert "test score" not in alone


def test_scores_on_a_budget_that_were_measured_otherwise_are_not_subtracted() -> None:
    def row(phase: str, refused: str | None) -> dict[str, Any]:
        budget = {"per_class": 5, "rule": "balanced", "seed": 0, "images": 15, "of": 90}
        found = {"tune/accuracy": 0.9 if phase == "final" else 0.8}
        return {"evaluator": "tune", "phase": phase, **budget, "test": found, "skipped": None, "refused": refused}

    for refused, end in ((None, "+0.100 1"), ("other images", "missing 1 not compared: other images")):
        rows = [row(phase, refused) for phase in ("initial", "final")]
        line = console.results_table(results(budgets=rows)).splitlines()[-1]
        assert " ".join(line.split()) == f"tune/accuracy, 5 a class 0.800 0.900 {end}"


def test_a_missing_score_is_missing_and_not_zero() -> None:
    lines = console.results_table(results(final={"knn/accuracy": None})).splitlines()
    assert lines[1].split() == ["knn/accuracy", "0.800", "missing", "missing", "missing"]


def test_thresholds_pass_and_fail() -> None:
    def table(published: dict[str, float], **values: float) -> str:
        test = {name: {"value": value, "better": "higher", "kind": "metric"} for name, value in values.items()}
        return console.evaluation_table("t", [ScoreFile("key", "knn", "initial", {}, test=test)], published)

    assert "0.900   published: at least 0.91   FAIL" in table({"knn/accuracy": 0.91}, accuracy=0.9, f1=math.nan)
    assert "missing" in table({}, f1=math.nan)
    assert "pass" in table({"knn/accuracy": 0.9}, accuracy=0.9)
    assert "no published threshold" in table({}, accuracy=0.9)
