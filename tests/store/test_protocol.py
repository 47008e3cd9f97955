"""Scores that were not measured alike are not subtracted."""

from __future__ import annotations

import math
from typing import Any

import pytest

from dinodiet.config.groups import BUDGET
from dinodiet.run.console import results_table
from dinodiet.store.protocol import COMPARED, difference
from dinodiet.store.scores import ScoreFile, summary

ALIKE: dict[str, Any] = dict.fromkeys(COMPARED, 1) | {"last_loss": [0.5]}


def both(before: dict[str, Any] | None, after: dict[str, Any] | None) -> dict[str, Any]:
    metric = {"accuracy": {"value": 0.5, "better": "higher", "kind": "metric"}}
    sides = {"initial": before, "final": after}
    return summary([ScoreFile(phase, "tune", phase, {}, test=metric, protocol=sides[phase]) for phase in sides])


@pytest.mark.parametrize("key", COMPARED)
def test_sides_that_differ_are_refused_by_name(key: str) -> None:
    found = both(ALIKE, ALIKE | {key: 2})
    assert found["refused"] == {"tune": f"measured differently: {key} (1 before, 2 after)"}
    table = results_table(found)
    assert "tune is not compared: measured differently" in table and "missing" in table


def test_sides_that_agree_are_subtracted_and_so_are_old_files_without_a_record() -> None:
    for one, other in ((ALIKE, ALIKE | {"last_loss": [0.1]}), (None, None)):
        assert both(one, other)["refused"] == {} and difference(one, other) is None
    assert both(None, ALIKE)["refused"] == {"tune": "one side has no record of how it was measured"}
    assert not math.isnan(both(None, None)["final"]["tune/accuracy"])


def test_sides_on_a_budget_of_labels_are_refused_for_their_own_draw() -> None:
    metric = {"accuracy": {"value": 0.5, "better": "higher", "kind": "metric"}}
    files = [
        ScoreFile(
            f"{phase}_tune_0{BUDGET}per_class-1-seed{seed}",
            *("tune", phase, {}),
            test=metric,
            protocol=ALIKE | {"lr": 1 + seed * (phase == "final")},
            labels={"per_class": 1, "rule": "balanced", "seed": seed, "images": 10, "of": 64},
        )
        for phase in ("initial", "final")
        for seed in (0, 1)
    ]
    found = summary(files)
    why = "measured differently: lr (1 before, 2 after)"
    assert [(row["seed"], row["refused"]) for row in found["budgets"]] == [(0, None), (1, why)] * 2
    assert found["refused"] == {}
    (line,) = [line for line in results_table(found).splitlines() if "1 a class" in line]
    assert line.split("  ")[-1] == f"not compared: {why}" and "missing" in line and "+0.000" not in line
