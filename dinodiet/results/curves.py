"""Scores and losses by epoch, as mean and standard deviation over seeds, of finished and of running runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from dinodiet.errors import UserError
from dinodiet.io.files import read_json
from dinodiet.results.runs import Run
from dinodiet.results.table import Layout, as_text, ordered
from dinodiet.results.tidy import run_frame
from dinodiet.store.rundir import RunDir

Point = tuple[float, float]
LOOKED_AT = 20  # runs whose logs tell what curves there are
VALIDATION = "val/"


def quantity(runs: Sequence[Run], metric: str | None = None) -> str:
    """Return the full name of what a curve shows: `val/knn/accuracy` for a score, the plain name of what is logged.

    Scores during training are those on the validation split, whether or not `metric` says so. Without one it is k-NN
    accuracy, else the first accuracy, else the loss.

    Raises:
        UserError: no run has it; what there is is listed.
    """
    there = sorted({name for run in runs[:LOOKED_AT] for name in _names(run)})
    if metric is None:
        scores = [name for name in there if name.endswith("/accuracy")]
        wanted = ["val/knn/accuracy", *scores, "loss", *there]
        found = next((name for name in wanted if name in there), None)
    else:
        wanted = [VALIDATION + metric.removeprefix(VALIDATION), metric]
        everywhere = [name for run in runs[LOOKED_AT:] for name in _names(run)] if not {*wanted} & {*there} else []
        found = next((name for name in wanted if name in there or name in everywhere), None)
    if found is None:
        told = ", ".join(name.removeprefix(VALIDATION) for name in there) or "nothing was logged"
        raise UserError(f"{metric or 'curves'}: no curve of it; choose from: {told}")
    return found


def title_of(name: str) -> str:
    """Return the name of a quantity as an axis shows it."""
    return f"{name.removeprefix(VALIDATION)} (validation)" if name.startswith(VALIDATION) else name


def curves(runs: Sequence[Run], name: str, plan: Layout) -> pd.DataFrame:
    """Return a quantity (see `quantity`) by epoch: the layout's keys as text, epoch, mean, sd (ddof = 1), n.

    A score begins with the initial one as epoch 0 and, of a finished run, ends with the final one.
    """
    found = [(row, *point) for row, run in enumerate(runs) for point in points(run, name)]
    rows, epochs, values = zip(*found, strict=True)
    frame = run_frame(runs, plan.choices).take(list(rows)).reset_index(drop=True)
    return by_epoch(frame.assign(epoch=[round(epoch, 4) for epoch in epochs], value=values), plan.choices)


def by_epoch(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return mean, sd (ddof = 1) and n of `value` by the keys, as text, and epoch."""
    groups = as_text(frame, keys).groupby([*keys, "epoch"], sort=False)["value"]
    found: pd.DataFrame = groups.agg(mean="mean", sd="std", n="count").reset_index()
    sorted_rows: pd.DataFrame = ordered(found[keys].drop_duplicates()).merge(found.sort_values("epoch"), on=keys)
    return sorted_rows


def points(run: Run, name: str) -> Iterator[Point]:
    """Yield (epoch, value) of a score on the validation split, or of what is logged."""
    initial, final = (run.record.get(f"{phase}/{name}") for phase in ("initial", "final"))
    if initial is not None:
        yield 0.0, float(initial)
    last = 0.0
    for row in _rows(run, name):
        if row.get(name) is not None:
            last = float(row["epoch"])
            yield last, float(row[name])
    total = _epochs(run)
    if final is not None and total is not None and last < total:
        yield total, float(final)


def _epochs(run: Run) -> float | None:
    """Return how many epochs a run is long; None: it does not say."""
    steps, told = run.record.get("schedule.steps"), run.record.get("schedule.epochs")
    if steps is None or math.isnan(float(steps)):
        return None if told is None else float(told)
    logged = [row for row in RunDir(run.path).read_metrics() if row.get("step") and row.get("epoch")]
    return float(logged[-1]["epoch"]) * float(steps) / float(logged[-1]["step"]) if logged else None


def _rows(run: Run, name: str) -> Iterator[dict[str, Any]]:
    if name.startswith(VALIDATION) and f"final/{name}" in run.record:
        yield from (read_json(RunDir(run.path).results) or {}).get("epochs", [])
    else:
        yield from RunDir(run.path).read_metrics()


def _names(run: Run) -> set[str]:
    logged = {key for row in RunDir(run.path).read_metrics() for key, value in row.items() if value is not None}
    scores = {key.removeprefix("final/") for key in run.record if key.startswith("final/val/")}
    return {name for name in logged | scores if name not in ("step", "epoch")}
