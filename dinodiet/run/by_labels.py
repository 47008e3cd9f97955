"""Scores on budgets of labels as a run prints them: the first metric of each evaluator, as a mean over draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from dinodiet.config.groups import PHASES
from dinodiet.store.scores import BUDGET_KINDS, number

Row = Mapping[str, Any]
WORDS = {"per_class": "{} a class", "fraction": "{} of train"}


def by_labels(rows: Iterable[Row], *, trained: bool = True) -> list[str]:
    """Return a table of `budgets` of results.json; no lines where there are none. The other metrics stand there.

    A value that is missing or undefined leaves its mean missing; how many draws there are stands beside. Of a run that
    is not `trained`, whose final scores are its initial ones, they stand once.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["evaluator"], _budget(row)), []).append(row)
    if not groups:
        return []
    phases = [phase for phase in PHASES if any(row["phase"] == phase for group in groups.values() for row in group)]
    phases = phases or list(dict.fromkeys(row["phase"] for group in groups.values() for row in group))
    phases = phases if trained else phases[-1:]
    names = {key: f"{_metric(key[0], group)}, {key[1]}" for key, group in groups.items()}
    width = max(map(len, [*names.values(), "labels of train, mean"]))
    change = "   change" if len(phases) > 1 else ""
    columns = phases if trained else ["value"]
    header = f"  {'labels of train, mean':<{width}}{''.join(f'  {name:>7}' for name in columns)}{change}  draws"
    return [header, *(f"  {names[key]:<{width}}{_cells(group, phases)}" for key, group in groups.items())]


def _cells(rows: list[Row], phases: list[str]) -> str:
    means = [_mean([row for row in rows if row["phase"] == phase]) for phase in phases]
    draws = len({row["seed"] for row in rows})
    skipped = next((f"  left out: {row['skipped']}" for row in rows if row["skipped"] is not None), "")
    refused = next((f"  not compared: {row['refused']}" for row in rows if row.get("refused") is not None), "")
    change = [_score(math.nan if refused else means[1] - means[0], "+")] if len(phases) > 1 else []
    return "".join(f"  {cell}" for cell in [*map(_score, means), *change, f"{draws:>5}"]) + skipped + refused


def _budget(row: Row) -> str:
    kind = next(kind for kind in BUDGET_KINDS if kind in row)
    usual = (kind == "per_class") == (row["rule"] == "balanced")
    return WORDS[kind].format(row[kind]) + ("" if usual else f" ({row['rule']})")


def _metric(evaluator: str, rows: list[Row]) -> str:
    """Return the first metric of an evaluator; its own name where it has none."""
    return next((name for row in rows for name in row["test"]), evaluator)


def _mean(rows: list[Row]) -> float:
    values = [number(next(iter(row["test"].values()), None)) for row in rows]
    return math.fsum(values) / len(values) if values else math.nan


def _score(value: float, sign: str = "") -> str:
    return f"{'missing':>7}" if math.isnan(value) else f"{value:{sign}7.3f}"
