"""Scores beside published ones: a table of what others measured, joined to the runs that measured the same.

A file of published scores is a CSV with the columns model, dataset, metric and value, and a column for each further
choice that a run must share, by its key (`dataset.source.size`, `eval.knn.k`); an empty field asks for nothing. The
column `published_as` is the name of the model at its source. Lines that begin with `#` say where the scores are from
and how they were measured, and are printed with them.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from dinodiet.config.places import SWEEPS
from dinodiet.errors import UserError, one_line
from dinodiet.results.render import Style, grid, number, titled
from dinodiet.results.runs import Run
from dinodiet.results.table import as_text, place
from dinodiet.results.tidy import matches, tidy

FOLDER = SWEEPS / "published"
NEEDED, NAME = ("model", "dataset", "metric", "value"), "published_as"
MEASURED = ("n", "mean", "sd", "published", "difference")
Fields = dict[str, Any]


@dataclass(frozen=True)
class Published:
    """Published scores.

    Attributes:
        name: of the file, without its ending.
        rows: fields by column; `value` is a number, and empty fields are left out.
        told: the lines about source and protocol.
    """

    name: str
    rows: list[Fields]
    told: list[str]


def read_published(name: str) -> Published:
    """Read a table of `sweeps/published/` by its name, or a file.

    Raises:
        UserError: there is none (the names that there are are listed), it is no text, a column is missing, a line has
            more fields than columns, or a value is no number.
    """
    path = Path(name) if name.endswith(".csv") else FOLDER / f"{name}.csv"
    if not path.is_file():
        there = ", ".join(sorted(one.stem for one in FOLDER.glob("*.csv")))
        raise UserError(f"--published {name}: no such table; choose from: {there}, or give a .csv file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); give a CSV file in UTF-8") from error
    told = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    reader = csv.DictReader(line for line in lines if not line.startswith("#"))
    columns = list(reader.fieldnames or ())
    if lacking := [column for column in NEEDED if column not in columns]:
        raise UserError(f"{path}: no column {', '.join(lacking)}; needed are {', '.join(NEEDED)}")
    return Published(path.stem, [_row(path, row) for row in reader], told)


def _row(path: Path, row: dict[str, str]) -> Fields:
    if None in row:  # where the csv module puts fields that no column is for
        raise UserError(f"{path}: more fields than columns in the line of {row['model']} on {row['dataset']}")
    kept: Fields = {column: field for column, field in row.items() if field}
    try:
        kept["value"] = float(row["value"])
    except (TypeError, ValueError):
        kept["value"] = math.nan
    if not math.isfinite(kept["value"]):
        raise UserError(f"{path}: value {row['value']!r} of {row['model']} on {row['dataset']} is no number")
    return kept


def beside(published: Published, runs: Sequence[Run], metrics: Sequence[str], phases: Sequence[str]) -> pd.DataFrame:
    """Return a row for each published score and each group of runs that measured the same; seeds are averaged.

    Columns: metric, phase, whatever tells groups apart (never averaged over), n, mean, sd (ddof = 1), published,
    difference. `metrics`: only these; none: all.

    Raises:
        UserError: nothing published was measured.
    """
    plan, wanted = place(runs), [row for row in published.rows if not metrics or row["metric"] in metrics]
    names = list(dict.fromkeys([*plan.cols, *plan.rows]))
    found = [line for row in wanted for line in _measured(row, _like(row, runs), names, phases)]
    if not found:
        models = ", ".join(dict.fromkeys(str(row["model"]) for row in wanted))
        asked = f" ({', '.join(metrics)})" if metrics else ""
        told = f"no finished run has measured any of it{asked}; its models: {models or 'none'}"
        raise UserError(f"--published {published.name}: {told}")
    return pd.DataFrame(found)


def _like(row: Fields, runs: Sequence[Run]) -> list[Run]:
    """Return the runs that share the choices of a published score and have that metric."""
    choices = {key: value for key, value in row.items() if key not in ("metric", "value", NAME)}
    have = [run for run in runs if f"final/{row['metric']}" in run.record]
    return [run for run in have if all(matches(run.record.get(key), [value]) for key, value in choices.items())]


def _measured(row: Fields, like: Sequence[Run], names: list[str], phases: Sequence[str]) -> Iterator[Fields]:
    """Yield the scores of each group of runs beside a published one."""
    scores = as_text(tidy(like, [str(row["metric"])], names), names)
    scores = scores[scores["phase"].isin(phases) & scores["value"].notna()]
    for group, values in scores.groupby([*names, "phase"], observed=True, sort=False)["value"]:
        *choices, phase = group
        mean, value = float(values.mean()), float(row["value"])
        measured = (len(values), mean, float(values.std(ddof=1)), value, mean - value)
        told = dict(zip(names, choices, strict=True))
        yield {"metric": row["metric"], "phase": phase, **told, **dict(zip(MEASURED, measured, strict=True))}


def beside_table(rows: pd.DataFrame, published: Published, style: Style = "text") -> str:
    """Return the rows of `beside` as a table."""
    keys = [name for name in rows.columns if name not in MEASURED]
    shown = [name for name in keys if name != "phase" or rows["phase"].nunique() > 1]
    header = [*shown, "here (n)", "published", "difference"]
    lines = [[*(str(row[name]) for name in shown), *_texts(row)] for row in rows.to_dict("records")]
    title = f"{published.name}: mean ± sd over seed (n) beside the published score; difference = here - published"
    return titled(title, grid(header, lines, style), style)


def _texts(row: dict[Any, Any]) -> list[str]:
    spread = "" if math.isnan(row["sd"]) else f" ± {number(row['sd'])}"
    return [
        f"{number(row['mean'])}{spread} ({row['n']})",
        number(row["published"]),
        number(row["difference"], signed=True),
    ]


def remarks(rows: pd.DataFrame, published: Published) -> list[str]:
    """Say where the published scores are from, and how many of them no run has measured."""
    return [*published.told, f"{len(published.rows)} scores are published there, {len(rows)} lines stand above"]
