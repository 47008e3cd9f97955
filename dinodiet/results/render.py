"""Tables as text, Markdown and LaTeX (booktabs), and frames as CSV and Parquet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import pandas as pd

from dinodiet.errors import UserError
from dinodiet.io.files import write_atomically
from dinodiet.results.endings import Style
from dinodiet.results.table import Layout
from dinodiet.results.tidy import text

FORMATS = {"text": "simple", "markdown": "pipe", "latex": "latex_booktabs"}
# Marks around the text of a cell. LaTeX's commands are put in after tabulate has escaped the text; until then, code
# points for private use stand for them.
MARKS: Mapping[Style, Mapping[str, tuple[str, str]]] = {
    "text": {"best": ("", " *"), "tie": ("", " ~"), "": ("", "  ")},
    "markdown": {"best": ("**", "**"), "tie": ("_", "_"), "": ("", "")},
    "latex": {"best": ("\ue000", "\ue002"), "tie": ("\ue001", "\ue002"), "": ("", "")},
}
LATEX = {"\ue000": r"\textbf{", "\ue001": r"\underline{", "\ue002": "}", "±": r"$\pm$"}
LEGEND: Mapping[Style, str] = {
    "text": "* best of its column, ~ within one sd of the best",
    "markdown": "**best** of its column, _within one sd_ of the best",
    "latex": "best of its column in bold, those within one sd of the best underlined",
}


def number(value: float, *, signed: bool = False) -> str:
    """Return a score with three decimals, large numbers with fewer; missing is said."""
    if math.isnan(value):
        return "missing"
    sign = "+" if signed else ""
    return (
        f"{value:{sign}.3f}"
        if abs(value) < 10
        else f"{value:{sign},.1f}"
        if abs(value) < 1000
        else f"{value:{sign},.0f}"
    )


def tables(cells: pd.DataFrame, plan: Layout, style: Style = "text") -> str:
    """Return a table for each phase, with what they show above and the marks explained."""
    over = ", ".join(plan.over)
    metric = "" if "metric" in plan.keys else f"{plan.metrics[0]}, "
    parts = []
    for phase, part in cells.groupby("phase", observed=True, sort=False):
        title = f"{metric}{phase}: mean ± sd over {over} (n); {legend(plan, style)}"
        parts.append(titled(title, _table(part, plan, str(phase), style), style))
    return "\n\n".join(parts)


def legend(plan: Layout, style: Style) -> str:
    """Say which of the metrics are better when they are lower, or neither; higher is what readers expect."""
    several = len(plan.metrics) > 1
    lower = [f"lower {', '.join(plan.lower)} is better" if several else "lower is better"] if plan.lower else []
    of = f" of {', '.join(plan.unranked)}" if several else ""
    unranked = [f"neither direction{of} is better"] if plan.unranked else []
    marks = [] if set(plan.metrics) <= set(plan.unranked) else [LEGEND[style]]
    return "; ".join([*lower, *unranked, *marks])


def titled(title: str, table: str, style: Style) -> str:
    """Return a table below its title."""
    above = {"text": f"{title}\n", "markdown": f"{title}\n\n", "latex": f"% {title}\n"}
    return above[style] + table


def _table(part: pd.DataFrame, plan: Layout, phase: str, style: Style) -> str:
    texts = part.assign(text=[_cell(cell, phase, style) for cell in part.itertuples()])
    names = [" / ".join(labels) for labels in texts[list(plan.cols)].itertuples(index=False)]
    texts["column"] = names
    wide: dict[tuple[str, ...], dict[str, str]] = {}
    for row, column, content in zip(
        texts[list(plan.rows)].itertuples(index=False, name=None), texts["column"], texts["text"], strict=True
    ):
        wide.setdefault(row, {})[column] = content
    header = [*plan.rows, *dict.fromkeys(texts["column"])]
    return grid(header, [[*row, *cells.values()] for row, cells in wide.items()], style)


def _cell(cell: object, phase: str, style: Style) -> str:
    before, after = MARKS[style][str(getattr(cell, "mark"))] if getattr(cell, "state") == "done" else ("", "")  # noqa: B009
    return f"{before}{cell_text(cell, phase)}{after}"


def cell_text(cell: object, phase: str) -> str:
    """Return mean ± sd (n) of a cell of `table.aggregate`, or what became of its runs; without its mark."""
    if (state := str(getattr(cell, "state"))) != "done":  # noqa: B009
        return state
    mean, sd, n, planned, failed = (getattr(cell, name) for name in ("mean", "sd", "n", "planned", "failed"))
    spread = "" if math.isnan(sd) else f" ± {number(sd)}"
    count = f"{n} of {planned}" if planned is not pd.NA and n < planned else f"{n}"
    count += f", {failed} failed" if failed else ""
    return f"{number(mean, signed=phase == 'change')}{spread} ({count})"


def grid(header: Sequence[str], rows: Sequence[Sequence[str]], style: Style) -> str:
    """Return rows of text as a table."""
    from tabulate import tabulate  # noqa: PLC0415 - a command without a table need not wait for it

    drawn = tabulate([list(row) for row in rows], headers=list(header), tablefmt=FORMATS[style], disable_numparse=True)
    if style == "latex":
        for letter, command in LATEX.items():
            drawn = drawn.replace(letter, command)
    return drawn


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with columns of one width; columns that are empty everywhere are left out."""
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(len, column)) for column in columns]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True)]


def write_frame(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV or Parquet, by the file's ending.

    Raises:
        UserError: Parquet without pyarrow.
    """
    if path.suffix == ".csv":
        content = frame.to_csv(index=False).encode()
    else:
        try:
            content = bytes(numeric(frame).to_parquet(index=False))
        except ImportError as error:
            raise UserError(f"{path}: Parquet needs pyarrow: pip install 'dinodiet[parquet]'") from error
    write_atomically(path, lambda stream: _write(stream, content))


def numeric(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose columns of mixed kinds are text, as Parquet knows one type a column."""
    frame = frame.copy()
    for name in frame.columns[[dtype == "object" for dtype in frame.dtypes]]:
        frame[name] = frame[name].map(text).astype("string")
    return frame


def write_text(content: str, path: Path) -> None:
    """Write text atomically."""
    write_atomically(path, lambda stream: _write(stream, (content + "\n").encode()))


def _write(stream: IO[bytes], content: bytes) -> None:
    stream.write(content)
