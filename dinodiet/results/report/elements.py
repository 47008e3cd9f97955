"""What the pages of a report are made of: tables, plots, pictures, lines of logs and notes, in sections."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from dinodiet.results.cache import Record
from dinodiet.results.render import number
from dinodiet.results.runs import Run


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, what its column is sorted by (else the text), a mark, and the run it leads to."""

    text: str
    order: float | str | None = None
    mark: Literal["", "best", "tie"] = ""
    run: Run | None = None


@dataclass(frozen=True)
class Table:
    """A table that can be sorted and saved as CSV; one to `search` has a box for words, and lists for `filters`."""

    kind: ClassVar[str] = "table"
    name: str
    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    search: bool = False
    filters: Sequence[str] = ()


@dataclass(frozen=True)
class Plot:
    """A plot of plotly (traces and layout), with the numbers behind it and what it shows in words.

    `thumbnails`: a picture of small images, as `eval=map` writes it; a point's `customdata` is the place of its image,
    which is shown where the pointer is.
    """

    kind: ClassVar[str] = "plot"
    name: str
    title: str
    traces: Sequence[dict[str, Any]]
    layout: dict[str, Any]
    heads: Sequence[str]
    numbers: Sequence[Sequence[Any]]
    said: str
    thumbnails: Path | None = None


@dataclass(frozen=True)
class Picture:
    """A picture that lies in a run directory."""

    kind: ClassVar[str] = "picture"
    title: str
    path: Path


@dataclass(frozen=True)
class Lines:
    """Lines of a log or a file, folded away."""

    kind: ClassVar[str] = "lines"
    title: str
    text: str


@dataclass(frozen=True)
class Note:
    """A sentence."""

    kind: ClassVar[str] = "note"
    text: str


Element = Table | Plot | Picture | Lines | Note


@dataclass(frozen=True)
class Section:
    """Elements below a heading; `side_by_side` puts plots and pictures beside each other.

    A section with a `source` is empty: a live page fetches it from that address when it is seen.
    """

    name: str
    title: str
    elements: Sequence[Element] = field(default_factory=tuple)
    side_by_side: bool = False
    source: str = ""


def cells(*texts: object) -> list[Cell]:
    """Return cells of texts and numbers."""
    return [Cell(str(text), text if isinstance(text, (int, float)) else None) for text in texts]


def scored(value: float | None, *, signed: bool = False) -> Cell:
    """Return the cell of a number, empty where there is none."""
    return Cell("") if value is None or math.isnan(value) else Cell(number(value, signed=signed), value)


def value_of(record: Record, key: str) -> float | None:
    """Return a number of a record; None: it has none."""
    value = record.get(key)
    return None if value is None else float(value)


def slug(text: str) -> str:
    """Return a name for a file: letters, digits, points and dashes."""
    return re.sub(r"[^\w.]+", "-", text).strip("-")
