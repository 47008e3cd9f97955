"""Scores over the number of labels, before and after the training, with 95 % intervals over seeds and draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from dinodiet.errors import UserError
from dinodiet.results.budgets import on_budgets
from dinodiet.results.interval_of_mean import interval_of_mean
from dinodiet.results.runs import Run
from dinodiet.results.table import Layout, as_text, ordered
from dinodiet.results.tidy import is_refused, tidy

WAYS = (["study", "run"], ["label_seed"])  # in which values vary
ARMS = {"initial": "before", "final": "after"}
TRAINING = ("method", "schedule", "tuned")  # columns of which the scores before the training know nothing


def label_curves(runs: Sequence[Run], column: str, metric: str, plan: Layout) -> pd.DataFrame:
    """Return a metric over the labels: the layout's keys as text, arm, labels, mean, sd, n, low, high.

    A pair of run and draw is one value; low and high are the ends of the interval of their mean over runs and draws
    (`interval_of_mean`), NaN for one value. The arm `before` is one line for all methods, in which equal values of one
    draw, as of seeds that share a frozen backbone, count once. `column` is labels_per_class, where all labels stand at
    the mean number of images of a class, or label_fraction, where they stand at 1. Scores before that were not measured
    as those after are left out.

    Raises:
        UserError: no run has scores on such budgets.
    """
    kept = [run for run in on_budgets(runs) if run.record.get(column) is not None or _is_whole(run)]
    if not any(run.record.get(column) is not None for run in kept):
        raise UserError(f"{column}: no run has scores on it; give eval.{column}=[...] to the runs")
    known = _all_labels(kept, column)
    keys = [key for key in plan.choices if key not in (column, "label_seed")]
    frame = tidy([_comparable(run, metric) for run in kept], [metric], [*keys, column, "label_seed"])
    frame = frame[frame["phase"].isin(ARMS) & frame["value"].notna()].reset_index(drop=True)
    whole = [known.get(place) for place in zip(frame["study"], frame["run"], strict=True)]
    frame["labels"] = frame[column].astype(float).fillna(pd.Series(whole, index=frame.index, dtype=float))
    frame = as_text(frame, keys).assign(arm=frame["phase"].astype(str).map(ARMS))
    before = frame["arm"] == "before"
    for key in [key for key in keys if key.partition(".")[0] in TRAINING]:
        frame.loc[before, key] = ""
    once = frame[before].drop_duplicates([*keys, "labels", "label_seed", "value"])
    groups = pd.concat([once, frame[~before]]).groupby([*keys, "arm", "labels"], sort=False)
    found = groups["value"].agg(mean="mean", sd="std", n="count").reset_index()
    found[["low", "high"]] = [interval_of_mean(group, WAYS) for _, group in groups]
    lines = ordered(found[[*keys, "arm"]].drop_duplicates())
    sorted_rows: pd.DataFrame = lines.merge(found.sort_values("labels"), on=[*keys, "arm"])
    return sorted_rows


def _comparable(run: Run, metric: str) -> Run:
    """Return a run without its score before the training where that was measured otherwise than the one after."""
    if not is_refused(run.record, metric):
        return run
    return replace(run, record={key: value for key, value in run.record.items() if key != f"initial/{metric}"})


def _is_whole(run: Run) -> bool:
    return run.record.get("label_seed") is None and run.record.get("label_fraction") is None


def _all_labels(runs: Sequence[Run], column: str) -> dict[tuple[Any, Any], float]:
    """Return where all labels stand on the axis, by run."""
    if column == "label_fraction":
        return {(run.record["study"], run.record["run"]): 1.0 for run in runs}
    found: dict[tuple[Any, Any], float] = {}
    for run in runs:
        amount, images, of = (run.record.get(key) for key in (column, "setting/labels/images", "setting/labels/of"))
        if amount is not None and images:
            found[run.record["study"], run.record["run"]] = float(str(of)) * float(str(amount)) / float(str(images))
    return found
