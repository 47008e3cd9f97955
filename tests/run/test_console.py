import math
from typing import Any

from dinodiet.run import console as report


def results(**changes: Any) -> dict[str, Any]:
    initial = {"knn/accuracy": 0.8, "knn/k": 20, "kmeans/ari": 0.0}
    final = {"knn/accuracy": 0.9, "knn/k": 20, "kmeans/ari": 0.25}
    return {"initial": initial, "final": final, "skipped": {"linear": "because"}, **changes}


def test_the_table_shows_absolute_and_relative_change() -> None:
    lines = report.results_table(results()).splitlines()
    assert lines[1].split() == ["knn/accuracy", "0.800", "0.900", "+0.100", "+12.5%"]
    assert lines[2].split() == ["kmeans/ari", "0.000", "0.250", "+0.250", "missing"]  # no change relative to zero
    assert lines[3].strip() == "linear is left out: because"
    assert lines[4].strip() == "(knn/k=20)"


def test_a_missing_score_is_missing_and_not_zero() -> None:
    lines = report.results_table(results(final={"knn/accuracy": None})).splitlines()
    assert lines[1].split() == ["knn/accuracy", "0.800", "missing", "missing", "missing"]


def test_thresholds_pass_and_fail() -> None:
    table = report.scores_table("t", {"knn/accuracy": 0.9, "knn/f1": math.nan}, {}, {"knn/accuracy": 0.91})
    assert "0.900   published: at least 0.91   FAIL" in table
    assert "missing" in table
    assert "pass" in report.scores_table("t", {"knn/accuracy": 0.9}, {}, {"knn/accuracy": 0.9})
    assert "no published threshold" in report.scores_table("t", {"knn/accuracy": 0.9}, {}, {})
