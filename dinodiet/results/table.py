"""Mean and standard deviation over seeds for any rows x columns x metric, with what is missing told apart from 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from dinodiet.config.groups import STUDENT
from dinodiet.errors import UserError
from dinodiet.results.phases import PHASES
from dinodiet.results.record import COSTS
from dinodiet.results.runs import Run, has_no_best, lower_is_better
from dinodiet.results.tidy import metric_names, resolve, run_frame, text, tidy

NOT_A_KEY = ("run", "phase", "value")
GAPS = (
    "failed",
    "unreadable",
    "stopped",
    "running",
    "queued",
    "missing",
)  # what a cell is said to be: the first of its runs
SIDES = ("model", "dataset", "metric")  # rows and columns that were not chosen take the first that is free


@dataclass(frozen=True)
class Layout:
    """Which columns of the runs make the rows, the columns, and what is averaged over.

    Attributes:
        rows: first what else differs (the method ...), so that nothing is averaged by accident; then the chosen rows.
        cols: the chosen columns.
        over: averaged over.
        metrics: shown; `metric` is one of the rows where there are several.
        phases: initial, final, change.
        lower: those of the metrics whose best value is the smallest.
        unranked: those of which no value is the best.
    """

    rows: tuple[str, ...]
    cols: tuple[str, ...]
    over: tuple[str, ...] = ("seed",)
    metrics: tuple[str, ...] = ("knn/accuracy",)
    phases: tuple[str, ...] = PHASES
    lower: tuple[str, ...] = ()
    unranked: tuple[str, ...] = ()

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
    rows: Iterable[str] = (),
    cols: Iterable[str] = (),
    over: Iterable[str] = ("seed",),
    metrics: Iterable[str] = (),
    phases: Iterable[str] = (),
) -> Layout:
    """Return a layout in which every column that differs has its place.

    Rows that are not chosen are the model, columns the dataset; where those are placed elsewhere, what is free.

    Raises:
        UserError: an unknown column, metric or phase; the valid ones are listed.
    """
    shown = ("final",) if runs and all(run.is_frozen for run in runs) else PHASES
    metrics, phases = tuple(metrics) or default_metrics(runs), tuple(phases) or shown
    _known("metric", metrics, metric_names(runs))
    _known("phase", phases, PHASES)
    placed = place([*runs, *waiting], rows=rows, cols=cols, over=over, metrics=metrics)
    lower = tuple(one for one in metrics if lower_is_better(one, runs))
    unranked = tuple(one for one in metrics if has_no_best(one, runs))
    return replace(placed, phases=phases, lower=lower, unranked=unranked)


def place(
    runs: Sequence[Run],
    *,
    rows: Iterable[str] = (),
    cols: Iterable[str] = (),
    over: Iterable[str] = ("seed",),
    metrics: Iterable[str] = (),
) -> Layout:
    """Return the layout of runs that need not have scores; see `layout`."""
    rows, cols, over = (tuple(_columns(names, runs)) for names in (rows, cols, over))
    metrics = tuple(metrics)
    twice = [name for name, count in Counter((*rows, *cols, *over)).items() if count > 1]
    if twice:
        places = [side for side, names in {"rows": rows, "cols": cols, "over": over}.items() if twice[0] in names]
        raise UserError(f"{places[-1]}: {twice[0]} is in {places[0]} already; a column has one place")
    rows = rows or _free(SIDES, (*cols, *over))
    cols = cols or _free(SIDES[1:] + SIDES[:1], (*rows, *over))
    placed = {*rows, *cols, *over, *NOT_A_KEY}
    frame = run_frame(runs, used=placed)
    split = [name for name in frame.columns if name not in placed and frame[name].nunique(dropna=False) > 1]
    if len(metrics) > 1 and "metric" not in placed:
        split.insert(0, "metric")
    return Layout((*split, *rows), cols, over, metrics)


def _free(columns: Sequence[str], taken: Sequence[str]) -> tuple[str, ...]:
    return next((column,) for column in columns if column not in taken)


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


def default_metrics(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the default metric of what is evaluated, and that of the student where all runs have it beside."""
    metric = default_metric(runs)
    student = STUDENT + metric
    both = all(f"final/{student}" in run.record for run in runs)
    return (metric, student) if both else (metric,)


def aggregate(runs: Sequence[Run], waiting: Sequence[Run], wanted: Sequence[Run], plan: Layout) -> pd.DataFrame:
    """Return the cells of a table: one row per cell and phase.

    Columns: the layout's keys, as text; phase; mean; sd (ddof = 1, NaN for one run); n: runs with a finite value;
    planned: runs of the grid (those `wanted`, and those `waiting`), <NA> where no grid is known; mark: `best` of its
    column, `tie` within the best's sd; state: `done`, `-` for what is not in the grid and for the change of runs of no
    steps, else what became of its runs (see `GAPS`); failed: runs that failed.
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
    gaps = _gaps(waiting, plan)
    names, unmoved = list(cells[plan.keys].itertuples(index=False, name=None)), _unmoved(runs, plan)
    cells["state"] = [
        "done"
        if n
        else "-"
        if name in unmoved and phase == "change"
        else _gap(gaps.get(name, ()))
        if expected is None or name in expected
        else "-"
        for name, n, phase in zip(names, cells["n"], cells["phase"], strict=True)
    ]
    cells["failed"] = [gaps.get(name, ()).count("failed") for name in names]
    return _marked(cells, plan)


def _unmoved(runs: Sequence[Run], plan: Layout) -> set[tuple[str, ...]]:
    """Return the cells whose runs took no step, all of them: they have no change."""
    if not any(run.is_frozen for run in runs):
        return set()
    frame = _run_cells(runs, plan, frozen=[run.is_frozen for run in runs])
    return set(_states(frame[frame["frozen"]], plan, "frozen")) - set(_states(frame[~frame["frozen"]], plan, "frozen"))


def _gaps(waiting: Sequence[Run], plan: Layout) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the states of the unfinished runs of each cell."""
    if not waiting:
        return {}
    return _states(_run_cells(waiting, plan, state=[run.state for run in waiting]), plan, "state")


def _states(frame: pd.DataFrame, plan: Layout, column: str) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Return the values of a column by cell."""
    groups = frame.groupby(plan.keys, sort=False)[column]
    return {
        tuple(map(str, name)) if isinstance(name, tuple) else (str(name),): tuple(states) for name, states in groups
    }


def _gap(states: Sequence[str]) -> str:
    return next((state for state in GAPS if state in states), "missing")


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
    counts: pd.Series[int] = _run_cells(runs, plan).groupby(plan.keys, sort=False).size()
    counts.name = "planned"
    return counts


def _run_cells(runs: Sequence[Run], plan: Layout, **columns: Sequence[str] | Sequence[bool]) -> pd.DataFrame:
    """Return a row for each run, or run and metric, with the keys of its cell as text and further columns."""
    frame = run_frame(runs, plan.choices).assign(**columns)
    if "metric" in plan.keys:
        frame = frame.merge(pd.DataFrame({"metric": plan.metrics}), how="cross")
    return as_text(frame, plan.keys)


def _product(cells: Iterable[tuple[str, ...]], plan: Layout, phases: list[str]) -> pd.DataFrame:
    """Return all combinations of the rows and the columns that occur, sorted."""
    there = pd.DataFrame(list(dict.fromkeys(cells)), columns=plan.keys)
    sides = [ordered(there[list(names)].drop_duplicates()) for names in (plan.rows, plan.cols)]
    order = pd.DataFrame({"phase": pd.Categorical(phases, categories=list(PHASES), ordered=True)})
    combined: pd.DataFrame = sides[0].merge(sides[1], how="cross").merge(order, how="cross")
    return combined


def ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort by all columns, numbers by their value and before words."""

    def rank(column: pd.Series[str]) -> pd.Series[int]:
        unique = sorted(column.unique(), key=lambda value: (not _is_number(value), _number(value), value))
        return column.map({value: number for number, value in enumerate(unique)})

    rows: pd.DataFrame = frame.sort_values(list(frame.columns), key=rank, ignore_index=True)
    return rows


def _is_number(value: str) -> bool:
    return value.replace(".", "", 1).replace("e-", "", 1).lstrip("-").isdigit()


def _number(value: str) -> float:
    return float(value) if _is_number(value) else 0.0


def _marked(cells: pd.DataFrame, plan: Layout) -> pd.DataFrame:
    """Add the marks: of each column, phase and metric that has a best, the best mean and those within its sd of it."""
    cells["mark"] = ""
    by = [*plan.cols, *(["metric"] if "metric" in plan.rows else []), "phase"]
    for _, column in cells[cells["n"] > 0].groupby(by, observed=True, sort=False):
        metric = column["metric"].iloc[0] if "metric" in column else plan.metrics[0]
        if len(column) > 1 and metric not in plan.unranked:
            sign = -1 if metric in plan.lower else 1
            best = column.loc[(sign * column["mean"]).idxmax()]
            behind = sign * (best["mean"] - column["mean"])
            within = 0.0 if pd.isna(best["sd"]) else best["sd"]
            cells.loc[behind.index[behind <= within], "mark"] = "tie"
            cells.loc[behind.index[behind < 1e-12], "mark"] = "best"
    return cells
