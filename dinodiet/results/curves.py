"""Scores and losses by epoch, as mean and standard deviation over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from dinodiet.errors import UserError
from dinodiet.io.files import read_json
from dinodiet.results.runs import Run, is_setting
from dinodiet.results.table import Layout, as_text
from dinodiet.results.tidy import run_frame
from dinodiet.store.rundir import RunDir

Point = tuple[float, float]


def curves(runs: Sequence[Run], metric: str, plan: Layout) -> pd.DataFrame:
    """Return a quantity by epoch: the layout's keys as text, epoch, mean, sd (ddof = 1), n.

    `metric` is a score on the validation split (knn/accuracy or val/knn/accuracy; with the initial one as epoch 0 and
    the final one as the last), or anything that runs log while they train (loss).

    Raises:
        UserError: no run has it; what there is is listed.
    """
    name = metric.removeprefix("val/")
    found = [(row, *point) for row, run in enumerate(runs) for point in points(run, name)]
    if not found:
        there = sorted({one for run in runs[:20] for one in _names(run)})
        raise UserError(f"{metric}: no curve of it; choose from: {', '.join(there) or 'nothing was logged'}")
    rows, epochs, values = zip(*found, strict=True)
    frame = run_frame(runs, plan.choices).take(list(rows)).reset_index(drop=True)
    frame = as_text(frame, plan.choices).assign(epoch=[round(epoch, 4) for epoch in epochs], value=values)
    groups = frame.groupby([*plan.choices, "epoch"], sort=False)["value"]
    by_epoch: pd.DataFrame = groups.agg(mean="mean", sd="std", n="count").reset_index()
    ordered: pd.DataFrame = by_epoch.sort_values("epoch", kind="stable")
    return ordered


def points(run: Run, name: str) -> Iterator[Point]:
    """Yield (epoch, value) of a score on the validation split, or of what is logged."""
    ends = [run.record.get(f"{phase}/val/{name}") for phase in ("initial", "final")]
    rows = _epochs(run) if ends[1] is not None else RunDir(run.path).read_metrics()
    key = f"val/{name}" if ends[1] is not None else name
    if ends[0] is not None:
        yield 0.0, float(ends[0])
    last = 0.0
    for row in rows:
        if row.get(key) is not None:
            last = float(row["epoch"])
            yield last, float(row[key])
    total = run.record.get("schedule.epochs")
    if ends[1] is not None and total is not None and last < float(total):
        yield float(total), float(ends[1])


def _epochs(run: Run) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = (read_json(RunDir(run.path).results) or {}).get("epochs", [])
    return rows


def _names(run: Run) -> set[str]:
    logged = {key for row in RunDir(run.path).read_metrics() for key in row}
    scores = {key.removeprefix("final/val/") for key in run.record if key.startswith("final/val/")}
    return {name for name in logged | scores if name not in ("step", "epoch") and not is_setting(name)}
