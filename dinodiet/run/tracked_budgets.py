"""Scores on budgets of labels as trackers hear of them: means over the draws by name, and every draw in a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from dinodiet.io.files import write_csv
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import BUDGET_COLUMNS, budget_rows, number, read_scores

Row = Mapping[str, Any]
TABLE = "labels.csv"  # among the artefacts, which trackers show
COLUMNS = (*BUDGET_COLUMNS.values(), "rule", "draw", "images", "phase", "metric", "value")


def budget_means(rows: Iterable[Row]) -> dict[str, float]:
    """Return metrics by `final/labels_per_class=5/knn/accuracy`, each the mean over its draws; NaN where one is.

    `rows` are `budgets` of results.json. A rule that is not the usual one of its kind stands in the name.
    """
    found: dict[str, list[float]] = {}
    for row in rows:
        for metric, value in row["test"].items():
            found.setdefault(f"{row['phase']}/{_budget(row)}/{metric}", []).append(number(value))
    return {name: math.fsum(values) / len(values) for name, values in found.items()}


def write_budget_table(run_dir: RunDir) -> None:
    """Write every score on a budget of labels into a table among the artefacts; nothing where there are none."""
    rows = budget_rows(read_scores(run_dir))
    if not rows:
        return
    write_csv(run_dir.artefacts / TABLE, COLUMNS, (line for row in rows for line in _lines(row)))


def _lines(row: Row) -> list[list[Any]]:
    amounts = [row.get(kind, "") for kind in BUDGET_COLUMNS]
    what = [*amounts, row["rule"], row["seed"], row["images"], row["phase"]]
    return [[*what, metric, value] for metric, value in row["test"].items()]


def _budget(row: Row) -> str:
    kind = next(kind for kind in BUDGET_COLUMNS if kind in row)
    usual = (kind == "per_class") == (row["rule"] == "balanced")
    return f"{BUDGET_COLUMNS[kind]}={row[kind]}" + ("" if usual else f",{row['rule']}")
