"""Sections on scores: the main table, what the training changed, tests, ranks over data sets, and a heat map."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from dinodiet.errors import UserError
from dinodiet.results.compare import ALL_CELLS, PHASE, Comparison, compare
from dinodiet.results.compare_table import notes, pair_table, rank_table, rank_title, title_of
from dinodiet.results.figures import gains, labels_of
from dinodiet.results.interval_of_mean import LEVEL, interval_of_mean
from dinodiet.results.render import cell_text, legend, number
from dinodiet.results.report import plots
from dinodiet.results.report.elements import Cell, Element, Note, Plot, Section, Table, cells
from dinodiet.results.report.ranking import alike, critical_difference
from dinodiet.results.report.study import Scores, Study
from dinodiet.results.table import as_text
from dinodiet.results.tidy import tidy

MOST_COMPARED = 3  # columns whose values are compared
MOST_VALUES = 5  # of a column, of which each pair is shown cell by cell


def headline(study: Study) -> Section:
    """Return the main table, one a phase."""
    made: list[Element] = []
    if (scores := study.scores) is None:
        made.append(Note("No finished run has a score yet."))
    else:
        for phase, part in scores.cells.groupby("phase", observed=True, sort=False):
            made.append(score_table(part, scores, str(phase)))
        made += [Note(note) for note in scores.notes]
    return Section("scores", "Scores", [*made, *(Note(message) for message in study.found.messages())])


def score_table(part: pd.DataFrame, scores: Scores, phase: str) -> Table:
    """Return the cells of one phase as rows by columns: mean ± sd (n), the best marked, what is missing named."""
    plan = scores.plan
    metric = "" if "metric" in plan.keys else f"{plan.metrics[0]}, "
    title = f"{metric}{phase}: mean ± sd over {', '.join(plan.over)} (n)"
    columns = [" / ".join(labels) for labels in part[list(plan.cols)].itertuples(index=False)]
    wide: dict[tuple[str, ...], dict[str, Cell]] = {}
    names = part[list(plan.rows)].itertuples(index=False, name=None)
    for row, column, cell in zip(names, columns, part.itertuples(), strict=True):
        done = cell.state == "done"
        shown = Cell(cell_text(cell, phase), float(str(cell.mean)) if done else None, str(cell.mark) if done else "")  # type: ignore[arg-type]
        wide.setdefault(row, {})[column] = shown
    rows = [[*cells(*row), *found.values()] for row, found in wide.items()]
    return Table(f"scores-{phase}", title, [*plan.rows, *dict.fromkeys(columns)], rows, legend(plan, "text"))


def changes(study: Study) -> Section | None:
    """Return what the training changed, cell by cell, with the interval over seeds: a plot and a table."""
    scores = study.scores
    frame = None if scores is None else change_frame(study, scores)
    if scores is None or frame is None or frame.empty:
        return None
    plan = scores.plan
    names = [" / ".join(row) for row in frame[list(plan.rows)].itertuples(index=False, name=None)]
    groups: dict[str, list[tuple[int, float, float, float]]] = {}
    rows = list(dict.fromkeys(names))
    for name, column, row in zip(names, labels_of(frame, plan.cols), frame.itertuples(), strict=True):
        mean, low, high = (float(str(value)) for value in (row.mean, row.low, row.high))
        ends = (mean, mean) if math.isnan(low) else (low, high)
        groups.setdefault(column, []).append((rows.index(name), mean, *ends))
    traces, layout = plots.dots(groups, rows, f"change of {', '.join(plan.metrics)}")
    heads = [*plan.keys, "n", "mean", "low", "high"]
    numbers = frame[heads].to_numpy().tolist()
    said = f"Mean change of each cell with its {LEVEL:.0%} interval over {', '.join(plan.over)}; one run has none."
    table = [[*cells(*row[:-3]), *(Cell(_signed(value), _order(value)) for value in row[-3:])] for row in numbers]
    shown = Table("change", "The same as numbers", heads, table)
    return Section(
        "change", "What the training changed", [Plot("change", said, traces, layout, heads, numbers, said), shown]
    )


def change_frame(study: Study, scores: Scores) -> pd.DataFrame:
    """Return a row a cell: keys, n, mean, low, high; Student's t over its runs, NaN for one run."""
    plan = scores.plan
    found = tidy(study.done, plan.metrics, plan.choices)
    kept = as_text(found[(found["phase"] == "change") & found["value"].notna()], plan.keys)
    rows = []
    for names, part in kept.groupby(plan.keys, sort=False):
        low, high = interval_of_mean(part, [["study", "run"]])
        rows.append([*(names if isinstance(names, tuple) else [names]), len(part), part["value"].mean(), low, high])
    return pd.DataFrame(rows, columns=[*plan.keys, "n", "mean", "low", "high"])


def _signed(value: float) -> str:
    return "no interval" if math.isnan(value) else number(value, signed=True)


def _order(value: float) -> float | None:
    return None if math.isnan(value) else value


def tests(study: Study) -> Section | None:
    """Return paired tests: final against initial scores, and the values of what differs against each other."""
    made = [element for key in compared_keys(study) for element in _tested(study, key)]
    return Section("tests", "Paired tests", made) if made else None


def compared_keys(study: Study) -> list[str]:
    """Return what is compared: the phase, and the columns that make the rows of the main table."""
    if study.scores is None:
        return []
    values = {name: study.scores.cells[name].nunique() for name in study.scores.plan.rows if name != "metric"}
    return [PHASE, *[name for name, count in values.items() if count > 1][:MOST_COMPARED]]


def _tested(study: Study, key: str) -> Iterator[Element]:
    found = compared(study, key)
    if isinstance(found, str):
        yield Note(found)
        return
    shown = _shortened(found)
    heads, rows = pair_table(shown)
    yield Table(f"tests-{key}", title_of(found), heads, [cells(*row) for row in rows])
    if shown is not found:
        yield Note(f"{len(found.values)} values of {key}: pairs over all cells alone; --compare {key} has the rest.")
    yield from (Note(note) for note in notes(found))
    if found.ranked and len(found.values) > 1 and key != PHASE:
        yield from ranks(found)


def _shortened(found: Comparison) -> Comparison:
    """Return a comparison of many values with its pairs over all cells alone."""
    overall = found.pairs[found.pairs[found.cells[0]] == ALL_CELLS]
    return found if len(found.values) <= MOST_VALUES or overall.empty else replace(found, pairs=overall)


def compared(study: Study, key: str) -> Comparison | str:
    """Return the comparison of a column's values, or why there is none."""
    scores = study.scores
    if scores is None:
        return "No finished run has a score yet."
    try:
        return compare(study.done, key, metric=scores.plan.metrics[0], phase="final", over=scores.plan.over)
    except UserError as error:
        return f"No comparison of {key}: {error}"


def ranks(found: Comparison) -> Iterator[Element]:
    """Yield mean ranks over cells, with the critical difference where three values or more can be told apart."""
    heads, rows = rank_table(found)
    yield Table(f"ranks-{found.key}", rank_title(found), heads, [cells(*row) for row in rows])
    count = int(found.ranks["cells"].iloc[0])
    places = dict(zip(found.ranks["value"], found.ranks["mean_rank"], strict=True))
    if len(places) < 3 or count < 3:
        yield Note("A critical-difference diagram needs three values and three cells that have all of them.")
        return
    distance = critical_difference(len(places), count)
    cliques = alike(places, distance)
    traces, layout = plots.rank_line(places, cliques, distance)
    said = f"Mean ranks of {found.key} over {count} cells; bars join values whose ranks do not differ (Nemenyi, 95 %)."
    yield Plot(f"ranks-{found.key}", said, traces, layout, heads, [list(pair) for pair in places.items()], said)


def heat(study: Study) -> Section | None:
    """Return mean changes as colours with numbers, rows by columns."""
    if study.scores is None:
        return None
    plan = study.scores.plan
    part = study.scores.cells[study.scores.cells["phase"] == "change"]
    if part["mean"].notna().sum() < 2:
        return None
    part = part.assign(gain=gains(part, plan), row=labels_of(part, plan.rows), column=labels_of(part, plan.cols))
    rows, columns = (list(dict.fromkeys(part[name])) for name in ("row", "column"))
    wide = {(cell.row, cell.column): cell for cell in part.itertuples()}
    grid = [[wide[row, column] for column in columns] for row in rows]
    values = [[_order(float(str(cell.gain))) for cell in line] for line in grid]
    texts = [
        [number(float(str(c.mean)), signed=True) if c.state == "done" else str(c.state) for c in line] for line in grid
    ]
    traces, layout = plots.heat_map(values, texts, rows, columns)
    said = f"Mean change of {', '.join(plan.metrics)}; blue is better, red is worse."
    numbers = [
        [*(getattr(cell, name) for name in ("row", "column", "mean", "sd", "n"))] for line in grid for cell in line
    ]
    heads = ["row", "column", "mean", "sd", "n"]
    return Section("map", "Changes at a glance", [Plot("changes", said, traces, layout, heads, numbers, said)])
