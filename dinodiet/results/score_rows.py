"""Scores of one run as rows: before, after, change, and the interval of what came last. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dinodiet.config.groups import PHASES
from dinodiet.store.scores import BUDGET_KINDS, number

COLUMNS = ("metric", "initial", "final", "change", "relative_change_percent", "low", "high", "better")
Summary = Mapping[str, Any]  # of results.json, or `dinodiet.store.scores.summary`
AMOUNTS = {"per_class": "{} labels a class", "fraction": "{} of the labels"}


@dataclass(frozen=True)
class ScoreRow:
    """A test score of a run.

    Attributes:
        name: `<eval>/<metric>`; on a budget of labels with it behind, the values are then means over its draws.
        initial, final: before and after the training; NaN: undefined, None: there is no such score.
        interval: ends of the 95 % interval of the final score, else of the initial one, where one is known.
        better: which direction is an improvement: higher, lower or none.
        refused: why the two are not to be subtracted.
    """

    name: str
    initial: float | None = None
    final: float | None = None
    interval: tuple[float, float] | None = None
    better: str = "higher"
    refused: str | None = None

    @property
    def change(self) -> float | None:
        """Final - initial; None where one is not there, or the two were not measured alike."""
        if self.initial is None or self.final is None or self.refused is not None:
            return None
        return self.final - self.initial

    @property
    def relative(self) -> float | None:
        """The change in percent of the initial score's amount; None where that is 0, or there is no change to tell."""
        if self.change is None or not self.initial:
            return None
        return 100 * self.change / abs(self.initial)

    def cells(self) -> list[float | str | None]:
        """Return the row's cells under `COLUMNS`; None: empty."""
        low, high = self.interval or (None, None)
        numbers = (self.initial, self.final, self.change, self.relative, low, high)
        return [self.name, *(None if value is None or math.isnan(value) else value for value in numbers), self.better]


def score_rows(summary: Summary, *, trained: bool = True) -> list[ScoreRow]:
    """Return the rows of all test scores, those on budgets of labels last.

    Args:
        summary: what `dinodiet.store.scores.summary` says, as in results.json.
        trained: whether the run takes steps; of one that does not, the final scores are the initial ones: told once.
    """
    names = dict.fromkeys(name for phase in PHASES for name in summary[phase])
    rows = [_row(name, summary) for name in names] + _budget_rows(summary.get("budgets", ()))
    return rows if trained else [ScoreRow(row.name, None, row.final, row.interval, row.better) for row in rows]


def _row(name: str, summary: Summary) -> ScoreRow:
    initial, final = (number(summary[phase][name]) if name in summary[phase] else None for phase in PHASES)
    ends = summary.get("intervals", {}).get(PHASES[final is not None], {}).get(name)
    refused = summary.get("refused", {}).get(name.rpartition("/")[0])
    interval = None if ends is None else (float(ends[0]), float(ends[1]))
    return ScoreRow(name, initial, final, interval, summary["better"].get(name, "higher"), refused)


def _budget_rows(rows: Iterable[Mapping[str, Any]]) -> list[ScoreRow]:
    """Return a row for each metric and budget of labels."""
    found: dict[str, dict[str, list[float]]] = {}
    refused: dict[str, str | None] = {}
    for row in rows:
        for metric, value in row["test"].items():
            name = f"{metric}, {_amount(row)}"
            found.setdefault(name, {}).setdefault(row["phase"], []).append(number(value))
            refused[name] = refused.get(name) or row.get("refused")
    means = {name: {phase: math.fsum(v) / len(v) for phase, v in phases.items()} for name, phases in found.items()}
    first, last = PHASES
    return [ScoreRow(name, ends.get(first), ends.get(last), refused=refused[name]) for name, ends in means.items()]


def _amount(row: Mapping[str, Any]) -> str:
    kind = next(kind for kind in BUDGET_KINDS if kind in row)
    usual = (kind == "per_class") == (row["rule"] == "balanced")
    return AMOUNTS[kind].format(row[kind]) + ("" if usual else f" ({row['rule']})")
