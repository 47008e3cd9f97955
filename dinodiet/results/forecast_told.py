"""The command `--forecast`: forecasts of what has not ended, kept; how good they are; and whether they came true."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dinodiet.io.files import is_number, read_json
from dinodiet.results.budgets import picked
from dinodiet.results.forecast import Judged, base_rate, judge, lacking, predict, probability
from dinodiet.results.forecast_cells import finished_cells, measured, measures_of
from dinodiet.results.forecast_slopes import slopes_told
from dinodiet.results.kept_forecasts import NAME, Forecast, add_forecasts, read_forecasts
from dinodiet.results.plan import planned
from dinodiet.results.render import grid, number
from dinodiet.results.runs import Found, Run, lower_is_better
from dinodiet.results.table import default_metric
from dinodiet.results.tidy import Where, ends_of, select
from dinodiet.results.unfinished import unfinished
from dinodiet.store.rundir import RunDir

MOST = 60  # forecasts that are printed


def forecast(found: Found, metric: str | None, where: Where) -> str:
    """Return how good forecasts are, and those of all runs that have one; forecasts of what has not ended are written.

    Raises:
        UserError: no such metric or filter; forecasts were changed after they were written.
    """
    done = [run for run in select(picked(found.runs), where) if not run.is_frozen]
    if not done:
        return "no finished run with a training yet: nothing to fit a forecast to"
    metric = metric or default_metric(done)
    measures = [name for name in measures_of(done) if name != metric]
    cells = finished_cells(done, metric, measures)
    what = f"forecast of the change of {metric} (positive: better)"
    if not measures:
        lines = [f"{what}: no label-free measures before the training; record them with eval=[...,geometry]"]
    elif told := lacking(cells):
        lines = [f"{what}: {told}"]
    else:
        judged = judge(cells, measures)
        lines = [f"{what} from {', '.join(measures)}", *_judged(cells, judged)]
        lines += _write(found, done, where, (metric, cells, measures, judged))
    if measures and len(cells):
        lines += slopes_told(cells, measures)
    return "\n".join([*lines, *(part for study in found.studies for part in _kept(study, done, metric))])


def _judged(cells: pd.DataFrame, judged: Judged) -> list[str]:
    """Return what forecasts are worth, in lines."""
    signs, count, sets = judged.signs, len(cells), cells["dataset"].nunique()
    verdict = "better than the base rate" if judged.better else "not better than the base rate: do not rely on it"
    return [
        f"  fitted on {count} finished cells on {sets} data sets; each data set left out in turn:",
        f"  mean absolute error {number(judged.error)}; of the base rate, the method's mean gain on the other data "
        f"sets, {number(judged.base_error)}",
        f"  sign right in {signs[0]} of {count}; by the base rate in {signs[1]}",
        f"  {verdict}",
    ]


def _write(
    found: Found, done: Sequence[Run], where: Where, fitted: tuple[str, pd.DataFrame, Sequence[str], Judged]
) -> list[str]:
    """Write the forecasts of runs that have not ended and have none; return how many, and how many cannot be made."""
    metric, cells, measures, judged = fitted
    waiting = planned(found)[0]
    names = {(run.study, run.name) for run in waiting}
    waiting += [run for run in unfinished(found.unfinished) if (run.study, run.name) not in names]
    waiting = select(waiting, where) if waiting else []
    known = [(run, values) for run in waiting if (values := measured(run, done, measures))]
    lines = []
    for study in found.studies:
        own = [(run, values) for run, values in known if run.study == study]
        if own:
            before = len(read_forecasts(study))
            kept = add_forecasts(study, _forecasts(own, metric, cells, measures, judged))
            if new := len(kept) - before:
                lines.append(f"  {new} new forecasts written to {study / NAME}")
    if left := len(waiting) - len(known):
        lines.append(f"  {left} runs that have not ended have no such measures yet: no forecast of them")
    return lines


def _forecasts(
    own: Sequence[tuple[Run, dict[str, float]]],
    metric: str,
    cells: pd.DataFrame,
    measures: Sequence[str],
    judged: Judged,
) -> list[Forecast]:
    what = [{"dataset": run.record["dataset"], "method": run.record["method"], **values} for run, values in own]
    frame, written = pd.DataFrame(what), time.time()
    gains, bases = predict(cells, frame, measures), base_rate(cells, frame)
    return [
        Forecast(
            run.name, metric, float(gain), probability(float(gain), judged.spread), float(base), len(cells),
            judged.better, values, written,
        )
        for (run, values), gain, base in zip(own, gains, bases, strict=True)
    ]  # fmt: skip


def _kept(study: Path, done: Sequence[Run], metric: str) -> list[str]:
    """Return the forecasts of a study as a table, and how those did whose runs have ended since."""
    kept = [one for one in read_forecasts(study) if one.metric == metric]
    if not kept:
        return []
    sign = -1.0 if lower_is_better(metric, done) else 1.0
    ended = {run.name: run for run in done if run.study == study}
    rows, scored = [], list[tuple[Forecast, float]]()
    for one in kept:
        change = ends_of(ended[one.run], metric)[2] if one.run in ended else None
        late = change is not None and _is_late(study, one)
        if change is not None and not late:
            scored.append((one, sign * change))
        came = "" if change is None else "written too late" if late else "yes" if _came(one, sign * change) else "no"
        rows.append([one.run, number(one.gain, signed=True), f"{one.probability:.0%}", _gain(change, sign), came])
    more = [f"and {len(rows) - MOST} more in {study / NAME}"] if len(rows) > MOST else []
    rows.sort(key=lambda row: row[-1] == "")  # those that have ended first
    table = grid(["run", "forecast", "gains", "measured", "came true"], rows[:MOST], "text")
    first = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept[0].written))
    return ["", f"{study}: forecasts, the first of {first}; gains: how probable; came true: the sign", table,
            *more, *_scored(scored)]  # fmt: skip


def _gain(change: float | None, sign: float) -> str:
    return "" if change is None else number(sign * change, signed=True)


def _came(one: Forecast, gain: float) -> bool:
    return (one.gain > 0) == (gain > 0)


def _is_late(study: Path, one: Forecast) -> bool:
    """Return whether a run had finished before its forecast was written."""
    finished = (read_json(RunDir(study / one.run).results) or {}).get("finished")
    return is_number(finished) and float(str(finished)) < one.written


def _scored(scored: Sequence[tuple[Forecast, float]]) -> list[str]:
    """Return how forecasts did: signs, Brier score, and error beside that of the base rate of their time."""
    if not scored:
        return []
    gains = np.array([gain for _, gain in scored])
    error, base = (
        float(np.abs(np.array([getattr(one, name) for one, _ in scored]) - gains).mean()) for name in ("gain", "base")
    )
    brier = float(np.square(np.array([one.probability for one, _ in scored]) - (gains > 0)).mean())
    right = sum(_came(one, gain) for one, gain in scored)
    return [
        f"of {len(scored)} that have ended {right} came true; Brier score {number(brier)} (0.25: a coin); "
        f"mean absolute error {number(error)}, of the base rate of then {number(base)}"
    ]
