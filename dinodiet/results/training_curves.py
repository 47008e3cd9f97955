"""How one training went, as numbers: loss and validation scores over epochs, and a table of the latter."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dinodiet.results.curves import VALIDATION, Point
from dinodiet.results.score_rows import ScoreRow, Summary
from dinodiet.store.scores import number

CHANGE, RELATIVE = "change", "relative_change_percent"
Curves = Mapping[str, Sequence[Point]]


def loss_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """Return (epoch, value) of the loss and its named parts (`diet_loss`), from rows of metrics.jsonl.

    A part that equals the loss everywhere is left out.
    """
    names = dict.fromkeys(name for row in rows for name in row if name == "loss" or name.endswith("_loss"))
    found = {name: _logged(rows, name) for name in names}
    return {name: line for name, line in found.items() if line and (name == "loss" or line != found.get("loss"))}


def validation_curves(summary: Summary, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Point]]:
    """Return (epoch, value) of each score on validation: before the training, at evaluated epochs, and after it.

    Args:
        summary: what `dinodiet.store.scores.summary` says.
        rows: of metrics.jsonl; the last one tells how many epochs there were.
    """
    before, after = (summary["validation"][phase] for phase in ("initial", "final"))
    logged = (name.removeprefix(VALIDATION) for row in rows for name in row if name.startswith(VALIDATION))
    last = float(rows[-1]["epoch"]) if rows else 0.0
    found = {}
    for name in dict.fromkeys([*before, *after, *logged]):
        start = [(0.0, number(before[name]))] if name in before else []
        end = [(last, number(after[name]))] if name in after else []
        found[name] = [*start, *_logged(rows, VALIDATION + name), *end]
    return found


def _logged(rows: Iterable[Mapping[str, Any]], name: str) -> list[Point]:
    return [(float(row["epoch"]), number(row[name])) for row in rows if name in row]


def validation_table(curves: Curves) -> tuple[list[str], list[list[float | None]]]:
    """Return the columns and rows of scores on validation: a row for each evaluated epoch.

    Beside each score stand its change since the first epoch, and that in percent; None where a score is not there or
    undefined, and in percent where the first one is 0.
    """
    heads = ["epoch", *(head for name in curves for head in (name, f"{name} {CHANGE}", f"{name} {RELATIVE}"))]
    lines = {name: dict(line) for name, line in curves.items()}
    epochs = sorted({epoch for line in lines.values() for epoch in line})
    return heads, [[epoch, *(cell for line in lines.values() for cell in _cells(line, epoch))] for epoch in epochs]


def _cells(line: Mapping[float, float], epoch: float) -> list[float | None]:
    if epoch not in line:
        return [None, None, None]
    row = ScoreRow("", line[min(line)], line[epoch])
    return [None if value is None or math.isnan(value) else value for value in (row.final, row.change, row.relative)]
