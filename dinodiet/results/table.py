"""Mean and standard deviation over seeds for any rows x columns x metric, with what is missing told apart from 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dinodiet.errors import UserError
from dinodiet.results.runs import COSTS, Run
from dinodiet.results.tidy import PHASES, metric_names, resolve, run_frame, text, tidy

NOT_A_KEY = ("run", "phase", "value")
LESS_IS_BETTER = ("loss", "seconds", "memory", "parameters", "steps", "embed_dim")


@dataclass(frozen=True)
class Layout:
    """Which columns of the runs make the rows, the columns, and what is averaged over.

    Attributes:
        rows: first what else differs (the method ...), so that nothing is averaged by accident; then the chosen rows.
        cols: the chosen columns.
        over: averaged over.
        metrics: shown; `metric` is one of the rows where there are several.
        phases: initial, final, change.
    """

    rows: tuple[str, ...]
    cols: tuple[str, ...]
    over: tuple[str, ...] = ("seed",)
    metrics: tuple[str, ...] = ("knn/accuracy",)
    phases: tuple[str, ...] = PHASES

    @property
    def choices(self) -> list[str]:
        """The keys that come from the runs."""
        return [key for key in self.keys if key != "metric"]

    @property
    def keys(self) -> list[str]:
        """All columns that tell cells apart."""
        return [*self.rows, *self.cols]


def layout(
    runs: Sequence[Run],
    waiting: Sequence[Run] = (),
    *,
    rows: Iterable[str] = ("model",),
    cols: Iterable[str] = ("dataset",),
    over: Iterable[str] = ("seed",),
    metrics: Iterable[str] = (),
    phases: Iterable[str] = (),
) -> Layout:
    """Return a layout in which every column that differs has its place.

    Raises:
        UserError: an unknown column, metric or phase; the valid ones are listed.
    """
    everything = [*runs, *waiting]
    rows, cols, over = (tuple(_columns(names, everything)) for names in (rows, cols, over))
    twice = [name for name, count in Counter((*rows, *cols, *over)).items() if count > 1]
    if twice or not rows or not cols:
        raise UserError(f"{twice[0] if twice else 'rows and cols'}: give each column one place, and both at least one")
    metrics, phases = tuple(metrics) or (default_metric(runs),), tuple(phases) or PHASES
    _known("metric", metrics, metric_names(runs))
    _known("phase", phases, PHASES)
    frame, placed = run_frame(everything), {*rows, *cols, *over, *NOT_A_KEY}
    split = [name for name in frame.columns if name not in placed and frame[name].nunique(dropna=False) > 1]
    if len(metrics) > 1 and "metric" not in placed:
        split.insert(0, "metric")
    return Layout((*split, *rows), cols, over, metrics, phases)


def _columns(names: Iterable[str], runs: Sequence[Run]) -> list[str]:
    return [name if name == "metric" else resolve(name, runs) for name in names]


def _known(what: str, names: Iterable[str], valid: Sequence[str]) -> None:
    for name in names:
        if name not in valid:
            raise UserError(f"{name}: no such {what}; choose from: {', '.join(valid)}")


def default_metric(runs: Sequence[Run]) -> str:
    """Return k-NN accuracy where there is one, else the first accuracy, else the first metric.

    Raises:
        UserError: the runs have no score at all.
    """
    names = [name for name in metric_names(runs) if name not in COSTS]
    if not names:
        raise UserError("no scores: the runs were made without evaluators")
    accuracies = [name for name in names if name.endswith("/accuracy")]
    return "knn/accuracy" if "knn/accuracy" in names else (accuracies or names)[0]


def less_is_better(metric: str) -> bool:
    """Return whether the best of a metric is its smallest value: losses and costs."""
    return any(word in metric for word in LESS_IS_BETTER)


def aggregate(runs: Sequence[Run], waiting: Sequence[Run], wanted: Sequence[Run], plan: Layout) -> pd.DataFrame:
    """Return the cells of a table: one row per cell and phase.

    Columns: the layout's keys, as text; phase; mean; sd (ddof = 1, NaN for one run); n: runs with a finite value;
    planned: runs of the grid (those `wanted`, and those `waiting`), <NA> where no grid is known; mark: `best` of its
    column, `tie` within the best's sd; state: `done`, `missing`, or `-` for what is not in the grid.
    """
    scores = as_text(tidy(runs, plan.metrics, plan.choices), plan.keys)
    scores = scores[scores["phase"].isin(plan.phases)]
    groups = scores.groupby([*plan.keys, "phase"], observed=True, sort=False)["value"]
    found = groups.agg(mean="mean", sd="std", n="count")
    finite = found["n"].groupby(level="phase", observed=True).sum()
    phases = [phase for phase in plan.phases if finite.get(phase, 0)] or list(plan.phases)
    there, counts = _counts(runs, plan), _counts([*wanted, *waiting], plan)
    cells = _product([*there.index, *counts.index], plan, phases)
    cells = cells.join(found, on=[*plan.keys, "phase"]).join(counts, on=plan.keys)
    cells["n"] = cells["n"].fillna(0).astype(int)
    cells["planned"] = cells["planned"].astype("Int64").fillna(0) if len(counts) else pd.array([pd.NA] * len(cells))
    expected = {*there.index, *counts.index} if len(counts) else None
    names = cells[plan.keys].itertuples(index=False, name=None)
    cells["state"] = [
        "done" if n else "missing" if expected is None or name in expected else "-"
        for name, n in zip(names, cells["n"], strict=True)
    ]
    return _marked(cells, plan)


def as_text(frame: pd.DataFrame, keys: Iterable[str]) -> pd.DataFrame:
    """Return a frame whose key columns are text, as one writes them on the command line."""
    frame = frame.copy()
    for key in keys:
        codes, values = pd.factorize(frame[key], use_na_sentinel=False)
        texts = np.array([text(value) for value in values], dtype=object)
        frame[key] = pd.Series(texts[codes], index=frame.index, dtype=object)
    return frame


def _counts(runs: Sequence[Run], plan: Layout) -> pd.Series[int]:
    """Return the number of runs of each cell, finished or not."""
    frame = run_frame(runs, plan.choices)
    if "metric" in plan.keys:
        frame = frame.merge(pd.DataFrame({"metric": plan.metrics}), how="cross")
    counts: pd.Series[int] = as_text(frame, plan.keys).groupby(plan.keys, sort=False).size()
    counts.name = "planned"
    return counts


def _product(cells: Iterable[tuple[str, ...]], plan: Layout, phases: list[str]) -> pd.DataFrame:
    """Return all combinations of the rows and the columns that occur, sorted."""
    there = pd.DataFrame(list(dict.fromkeys(cells)), columns=plan.keys)
    sides = [_ordered(there[list(names)].drop_duplicates()) for names in (plan.rows, plan.cols)]
    order = pd.DataFrame({"phase": pd.Categorical(phases, categories=list(PHASES), ordered=True)})
    combined: pd.DataFrame = sides[0].merge(sides[1], how="cross").merge(order, how="cross")
    return combined


def _ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort by all columns, numbers by their value and before words."""

    def rank(column: pd.Series[str]) -> pd.Series[int]:
        unique = sorted(column.unique(), key=lambda value: (not _is_number(value), _number(value), value))
        return column.map({value: number for number, value in enumerate(unique)})

    ordered: pd.DataFrame = frame.sort_values(list(frame.columns), key=rank, ignore_index=True)
    return ordered


def _is_number(value: str) -> bool:
    return value.replace(".", "", 1).replace("e-", "", 1).lstrip("-").isdigit()


def _number(value: str) -> float:
    return float(value) if _is_number(value) else 0.0


def _marked(cells: pd.DataFrame, plan: Layout) -> pd.DataFrame:
    """Add the marks: of each column, phase and metric, the best mean and those within the best's sd of it."""
    cells["mark"] = ""
    by = [*plan.cols, *(["metric"] if "metric" in plan.rows else []), "phase"]
    for _, column in cells[cells["n"] > 0].groupby(by, observed=True, sort=False):
        if len(column) > 1:
            metric = column["metric"].iloc[0] if "metric" in column else plan.metrics[0]
            sign = -1 if less_is_better(metric) else 1
            best = column.loc[(sign * column["mean"]).idxmax()]
            behind = sign * (best["mean"] - column["mean"])
            within = 0.0 if pd.isna(best["sd"]) else best["sd"]
            cells.loc[behind.index[behind <= within], "mark"] = "tie"
            cells.loc[behind.index[behind < 1e-12], "mark"] = "best"
    return cells
