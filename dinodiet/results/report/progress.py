"""Sections on runs: how far the study is, what failed, curves, cost, where settings differ, and all runs as a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dinodiet.errors import UserError, printable
from dinodiet.io.units import duration
from dinodiet.results.curves import curves, quantity, title_of
from dinodiet.results.figures import labels_of
from dinodiet.results.one_run import error_lines
from dinodiet.results.record import MACHINE
from dinodiet.results.report import plots
from dinodiet.results.report.elements import (
    Cell,
    Element,
    Lines,
    Note,
    Plot,
    Section,
    Table,
    cells,
    scored,
    slug,
    value_of,
)
from dinodiet.results.report.study import Study
from dinodiet.results.runs import Run
from dinodiet.results.table import place
from dinodiet.results.tidy import ALWAYS, ends_of, text
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import CellState, CellStatus

LAST_LINES, LAST_BYTES = 15, 16_384  # of a log
MOST_FAILURES = 50  # with their last lines
MOST_PANELS = 24
MOST_POINTS = 400  # of a curve: more cannot be seen
MOST_DIFFERING = 5  # further columns of the table of runs


def progress(study: Study) -> Section:
    """Return the count of each state, and the progress of runs that are not done."""
    told = list(study.states.values())
    counts = Counter(status.state for status in told)
    said = ", ".join(f"{counts[state]} {state.value}" for state in CellState if counts[state])
    made: list[Element] = [Note(f"{len(told)} runs: {said or 'none'}.")]
    open_ones = [status for status in told if status.state is not CellState.DONE]
    if open_ones:
        runs = {run.path: run for run in study.runs}
        heads = ["run", "state", "step", "of", "loss", "images/s", "time left", "why"]
        rows = [_progress_row(status, runs.get(status.directory)) for status in open_ones]
        made.append(Table("not-done", "Runs that are not done", heads, rows, filters=["state"], search=True))
    return Section("progress", "Progress", made)


def _progress_row(status: CellStatus, run: Run | None) -> list[Cell]:
    numbers = (status.step, status.total_steps, status.loss, status.images_per_second)
    left = Cell("" if status.seconds_left is None else duration(status.seconds_left), status.seconds_left)
    shown = [
        Cell("" if value is None else f"{value:,.4g}" if isinstance(value, float) else f"{value:,}", value)
        for value in numbers
    ]
    return [
        Cell(printable(status.run_id), run=run),
        *cells(status.state.value),
        *shown,
        left,
        Cell(status.reason or ""),
    ]


def failures(study: Study) -> Section | None:
    """Return the runs that failed or stopped, with the last lines of what they printed."""
    bad = [one for one in study.states.values() if one.state in (CellState.FAILED, CellState.STOPPED)]
    if not bad:
        return None
    made: list[Element] = [_failure(status) for status in bad[:MOST_FAILURES]]
    if len(bad) > MOST_FAILURES:
        made.append(Note(f"and {len(bad) - MOST_FAILURES} more: python -m dinodiet.results STUDY --status names all"))
    return Section("failures", "Failures", made)


def _failure(status: CellStatus) -> Lines:
    """Return the end of a run's log, or of its traceback where it printed into a terminal."""
    reason = f": {status.reason}" if status.reason else ""
    told = last_lines(status.directory) or "\n".join(error_lines(status, LAST_LINES))
    return Lines(f"{printable(status.run_id)}, {status.state.value}{reason}", told or "it printed nothing")


def last_lines(directory: Path, most: int = LAST_LINES) -> str:
    """Return the last lines of a run's log; of bars that were drawn again and again the last state."""
    try:
        with RunDir(directory).log.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - LAST_BYTES))
            content = stream.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [printable(line.rstrip("\r").rpartition("\r")[2]) for line in content.split("\n") if line.strip()]
    return "\n".join(lines[-most:])


def learning(study: Study) -> Section | None:
    """Return curves of a score on validation and of the loss by epoch, a panel a column; also of running runs."""
    runs = [run for run in study.runs if run.record.get("method")]
    made: list[Element] = []
    for wanted in (study.metric, "loss"):
        try:
            name = quantity(runs, wanted)
        except UserError:
            continue
        made += panels(runs, name)
    return Section("curves", "Learning curves", made, side_by_side=True) if made else None


def panels(runs: Sequence[Run], name: str) -> list[Element]:
    """Return a plot of a quantity for each column of the main layout: a line a row, its band one sd over seeds."""
    plan = place(runs)
    data = curves(runs, name, plan)
    made: list[Element] = []
    for panel, part in data.groupby(labels_of(data, list(plan.cols)), sort=False):
        file = slug(f"{name}-{len(made)}")
        made.append(
            _curve_plot(file, f"{title_of(name)}: {panel}", part, labels_of(part, list(plan.rows)), title_of(name))
        )
    left = len(made) - MOST_PANELS
    return made if left <= 0 else [*made[:MOST_PANELS], Note(f"{left} more panels are left out: choose by --where")]


def _curve_plot(name: str, title: str, part: pd.DataFrame, labels: pd.Series[str], quantity_name: str) -> Plot:
    traces = []
    for at, (label, line) in enumerate(part.groupby(labels, sort=False)):
        kept = line.iloc[:: -(-len(line) // MOST_POINTS)]
        epochs, mean, sd = (kept[name].tolist() for name in ("epoch", "mean", "sd"))
        if kept["sd"].notna().any():
            spread = [0.0 if math.isnan(value) else value for value in sd]
            low, high = ([m + sign * s for m, s in zip(mean, spread, strict=True)] for sign in (-1, 1))
            traces.append(plots.band(epochs, low, high, at))
        traces.append(plots.line(str(label), epochs, mean, at))
    heads = list(part.columns)
    said = f"{title} by epoch, mean over seeds; the band is one standard deviation."
    return Plot(name, title, traces, plots.axes("epoch", quantity_name), heads, part.to_numpy().tolist(), said)


def costs(study: Study) -> Section | None:
    """Return what finished runs cost: time, hours of GPUs, images a second and memory, by the rows and columns."""
    if study.scores is None:
        return None
    keys = study.scores.plan.choices
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in study.done:
        groups.setdefault(tuple(text(run.record.get(key)) for key in keys), []).append(run)
    heads = [*keys, "runs", "time of one", "GPU hours", "CPU hours", "images/s", "parameters", "peak memory, MiB"]
    rows = [[*cells(*names), *_cost(runs)] for names, runs in groups.items()]
    rows.append([*cells("all", *[""] * (len(keys) - 1)), *_cost(study.done)])
    note = "Hours are of training alone, times the processes of a run; means over runs, and sums of hours."
    return Section("cost", "Cost", [Table("cost", "What the trainings cost", heads, rows, note)])


def _cost(runs: Sequence[Run]) -> list[Cell]:
    on_gpu, on_cpu = (sum(hours(run) for run in runs if is_gpu(run) is gpu) for gpu in (True, False))
    seconds = _mean(runs, "train_seconds")
    return [
        Cell(str(len(runs)), len(runs)),
        Cell("-" if seconds is None else duration(seconds), seconds),
        *(Cell(f"{one:.2f}" if one else "-", one) for one in (on_gpu, on_cpu)),
        *(scored(_mean(runs, name)) for name in ("images_per_second", "parameters", "peak_memory_mb")),
    ]


def _mean(runs: Sequence[Run], name: str) -> float | None:
    values = [value for run in runs if (value := value_of(run.record, f"final/{name}")) is not None]
    return sum(values) / len(values) if values else None


def hours(run: Run) -> float:
    """Return the hours of a run's training, times its processes."""
    seconds, processes = value_of(run.record, "final/train_seconds"), value_of(run.record, MACHINE + "processes")
    return (seconds or 0.0) * (processes or 1.0) / 3600


def is_gpu(run: Run) -> bool:
    """Return whether a run was trained on a GPU."""
    return str(run.record.get(MACHINE + "device", "")).startswith("cuda")


def differences(study: Study) -> Section | None:
    """Return the settings in which finished runs differ, with the number of runs that have each value."""
    rows = []
    for key in [name for name in (*ALWAYS, *study.differing) if name not in ("study", "run")]:
        counts = Counter(text(run.record.get(key)) for run in study.done)
        if len(counts) > 1:
            rows.append(cells(key, ", ".join(f"{value} ({count})" for value, count in sorted(counts.items()))))
    if not rows:
        return None
    return Section("differences", "Where settings differ", [
        Table("differences", "Settings and choices that differ, with the number of runs", ["key", "values"], rows),
    ])  # fmt: skip


def all_runs(study: Study) -> Section:
    """Return every run with its state and scores, to be searched, filtered and sorted."""
    more = [name for name in study.differing if name not in ALWAYS][:MOST_DIFFERING]
    metric = study.metric
    scored = ["initial", "final", "change"] if metric else []
    heads = ["run", "study", "model", "dataset", "method", "seed", *more, "state", *scored, "time"]
    rows = [[*_what(run, study, heads[1 : 6 + len(more)]), *_ends(run, metric), _time(run)] for run in study.runs]
    title = f"All runs; scores are {metric}" if metric else "All runs"
    filters = ["study", "model", "dataset", "method", *more, "state"]
    return Section("runs", "Runs", [Table("runs", title, heads, rows, search=True, filters=filters)])


def _what(run: Run, study: Study, keys: Sequence[str]) -> list[Cell]:
    told = [text(run.record[key]) if key in run.record else "" for key in keys]
    return [Cell(printable(run.name), run=run), *cells(*told, study.states[run.path].state.value)]


def _time(run: Run) -> Cell:
    seconds = value_of(run.record, "final/train_seconds")
    return Cell("") if seconds is None else Cell(duration(seconds), seconds)


def _ends(run: Run, metric: str | None) -> list[Cell]:
    if metric is None:
        return []
    before, after, change = ends_of(run, metric)
    return [scored(before), scored(after), scored(change, signed=True)]
