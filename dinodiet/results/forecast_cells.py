"""What forecasts are fitted to and made of: gains of finished cells, and label-free measures before the training."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from dinodiet.io.files import read_json
from dinodiet.results.record import evaluator_of
from dinodiet.results.runs import Run, lower_is_better
from dinodiet.results.table import as_text, place
from dinodiet.results.tidy import ends_of, run_frame
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import read_scores, summary

START = "initial/"


def measures_of(runs: Sequence[Run]) -> list[str]:
    """Return the label-free measures that finished runs have from before their training, as `geometry/rankme`."""
    names = dict.fromkeys(key.removeprefix(START) for run in runs for key in run.record if _is_measure(key))
    evaluators: dict[str, bool] = {}
    for name in names:
        evaluator = name.rpartition("/")[0]
        if evaluator not in evaluators:
            owner = next(run for run in runs if START + name in run.record)
            evaluators[evaluator] = evaluator in (read_json(RunDir(owner.path).results) or {}).get("of_train", ())
    return [name for name in names if evaluators[name.rpartition("/")[0]]]


def _is_measure(key: str) -> bool:
    """Return whether a key is of a score before the training, of the encoder that is evaluated, not on validation."""
    name = key.removeprefix(START)
    return key.startswith(START) and not name.startswith("val/") and evaluator_of(name) == name.partition("/")[0]


def finished_cells(runs: Sequence[Run], metric: str, measures: Sequence[str]) -> pd.DataFrame:
    """Return a row for each finished cell: what it is, gain and measures, means over seeds.

    Columns: those that tell cells apart, among them model, dataset and method; gain; the measures. Runs without a
    change of the metric, and those that lack a measure, are left out.
    """
    sign = -1.0 if lower_is_better(metric, runs) else 1.0
    rows, kept = [], []
    for run in runs:
        change = ends_of(run, metric)[2]
        found = [run.record.get(START + name) for name in measures]
        if change is not None and math.isfinite(change) and measures and None not in found:
            rows.append([sign * change, *(float(str(value)) for value in found)])
            kept.append(run)
    keys = list(dict.fromkeys([*place(runs).choices, "model", "dataset", "method"]))
    if not kept:
        return pd.DataFrame({name: [] for name in [*keys, "gain", *measures]})
    what = as_text(run_frame(kept, keys), keys)[keys]
    values = pd.DataFrame(rows, columns=["gain", *measures])
    cells: pd.DataFrame = pd.concat([what, values], axis=1).groupby(keys, sort=False, as_index=False).mean()
    return cells


def measured(run: Run, finished: Sequence[Run], measures: Sequence[str]) -> dict[str, float] | None:
    """Return the measures of a run that is not finished: its own, else those of runs of the same backbone and data.

    None where they are not known.
    """
    own = summary(read_scores(RunDir(run.path)))["initial"]
    if all(_is_known(own.get(name)) for name in measures):
        return {name: float(own[name]) for name in measures}
    asked = {key: value for key, value in run.record.items() if _is_input(key)}
    alike = [one for one in finished if all(one.record.get(key) == value for key, value in asked.items())]
    columns = {name: [one.record.get(START + name) for one in alike] for name in measures}
    if not alike or not all(_is_known(value) for column in columns.values() for value in column):
        return None
    return {name: sum(map(float, map(str, column))) / len(column) for name, column in columns.items()}


def _is_known(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _is_input(key: str) -> bool:
    """Return whether a key says which backbone looks at which images: but for the draw of the images."""
    return key in ("model", "dataset") or (key.startswith(("model.", "dataset.")) and not key.endswith("seed"))
