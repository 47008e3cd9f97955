"""Published scores: tables of what others measured, in files.

A file of published scores is a CSV with the columns model, dataset, metric and value, and a column for each further
choice that a run must share, by its key (`dataset.source.size`, `eval.knn.k`); an empty field asks for nothing. The
column `published_as` is the name of the model at its source. `phase` says when a score was measured (empty: final),
`sd` and `seeds` how it varied there, `notes` which remarks belong to it: letters, of lines such as `# a: other votes`,
or `# a unless eval.knn.votes=uniform: other votes`, which does not apply to runs that have that choice.
All other lines that begin with `#` say where the scores are from and how they were measured. What applies is printed.
"""

from __future__ import annotations

import csv
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinodiet.config.places import SWEEPS
from dinodiet.errors import UserError, one_line
from dinodiet.results.phases import PHASES

FOLDER = SWEEPS / "published"
NEEDED, NAME = ("model", "dataset", "metric", "value"), "published_as"
NUMBERS = ("value", "sd", "seeds")
NO_CHOICE = ("metric", NAME, "phase", "notes", *NUMBERS)
# A remark that scores name by its letter, and the choice of runs that it does not apply to.
NOTE = re.compile(r"([a-z])(?: unless ([\w.]+)=(\S+))?: (.+)")
Fields = dict[str, Any]


@dataclass(frozen=True)
class Published:
    """Published scores.

    Attributes:
        name: of the file, without its ending.
        rows: fields by column; `value`, `sd` and `seeds` are numbers, and empty fields are left out.
        told: the lines about source and protocol.
        notes: remarks that belong to some of the scores, by letter.
        unless: key and value of the choice of runs that a remark does not apply to, by letter.
    """

    name: str
    rows: list[Fields]
    told: list[str]
    notes: dict[str, str] = field(default_factory=dict)
    unless: dict[str, tuple[str, str]] = field(default_factory=dict)


def path_of(name: str) -> Path:
    """Return where a table of `sweeps/published/`, or a file, lies."""
    return Path(name) if name.endswith(".csv") else FOLDER / f"{name}.csv"


def read_published(name: str) -> Published:
    """Read a table of `sweeps/published/` by its name, or a file.

    Raises:
        UserError: there is none (the names that there are are listed), it is no text, a column is missing, a line has
            more fields than columns, a value is no number, or a remark is named that the file does not have.
    """
    path = path_of(name)
    if not path.is_file():
        there = ", ".join(sorted(one.stem for one in FOLDER.glob("*.csv")))
        raise UserError(f"--against {name}: no such table; choose from: {there}, or give a .csv file")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); give a CSV file in UTF-8") from error
    told = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
    found = [match for line in told if (match := NOTE.fullmatch(line))]
    notes, unless = {one[1]: one[4] for one in found}, {one[1]: (one[2], one[3]) for one in found if one[2]}
    reader = csv.DictReader(line for line in lines if not line.startswith("#"))
    columns = list(reader.fieldnames or ())
    if lacking := [column for column in NEEDED if column not in columns]:
        raise UserError(f"{path}: no column {', '.join(lacking)}; needed are {', '.join(NEEDED)}")
    rows = [_row(path, row, notes) for row in reader]
    return Published(path.stem, rows, [line for line in told if not NOTE.fullmatch(line)], notes, unless)


def _row(path: Path, row: dict[str, str], notes: dict[str, str]) -> Fields:
    what = f"{row['model']} on {row['dataset']}"
    if None in row:  # where the csv module puts fields that no column is for
        raise UserError(f"{path}: more fields than columns in the line of {what}")
    kept: Fields = {column: field for column, field in row.items() if field}
    for name in NUMBERS:
        if name == "value" or name in kept:
            kept[name] = _number(row[name], f"{path}: {name} {row[name]!r} of {what}")
    for letter in kept.get("notes", ""):
        if letter not in notes:
            raise UserError(f"{path}: no line '# {letter}: ...' for the note of {what}; there are: {', '.join(notes)}")
    if (phase := kept.get("phase", PHASES[1])) not in PHASES:
        raise UserError(f"{path}: phase {phase!r} of {what}; choose from: {', '.join(PHASES)}")
    return kept


def _number(text: str | None, what: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{what} is no number")
    return value
