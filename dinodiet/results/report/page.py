"""A report as HTML: Jinja's templates fill in elements, all text escaped; pictures are put in by a function."""

from __future__ import annotations

import csv
import functools
import html
import importlib.resources
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinodiet.errors import UserError
from dinodiet.results.report.elements import Cell, Plot, Section, Table
from dinodiet.results.runs import Run

if TYPE_CHECKING:
    from jinja2 import Environment

EXTRA = "pip install 'dinodiet[report]'"
MARKS = {"best": ("*", "best of its column"), "tie": ("~", "within one sd of the best")}


@dataclass(frozen=True)
class Links:
    """Where a page finds what it shows: the page of a run, and the source of a picture (None: left out)."""

    run: Callable[[Run], str | None]
    picture: Callable[[Path], str | None]


@dataclass(frozen=True)
class Page:
    """A page: its name in links, its title and sections."""

    name: str
    title: str
    sections: Sequence[Section]


def document(pages: Sequence[Page], links: Links, *, made: str, live: int | None = None) -> str:
    """Return an HTML document of pages, of which one is shown at a time.

    Args:
        pages: the overview first.
        links: where runs and pictures are.
        made: when it was made, in words.
        live: seconds between two looks at the server; None: a file, whose plotly lies in it.
    """
    template = environment().get_template("report.html.j2")
    inside = {"style": asset("report.css"), "script": asset("report.js"), "plotly": None if live else plotly()}
    return template.render(pages=pages, links=links, made=made, live=live, **inside)


def fragment(section: Section, links: Links) -> str:
    """Return one section as HTML."""
    return environment().get_template("section.html.j2").render(section=section, links=links)


def asset(name: str) -> str:
    """Return the text of a file that lies beside the templates."""
    return (importlib.resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


def plotly() -> str:
    """Return plotly's program, for browsers.

    Raises:
        UserError: plotly is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415 - for reports
    except ImportError as error:
        raise UserError(f"a report needs plotly: {EXTRA}") from error
    return str(get_plotlyjs())


@functools.cache
def environment() -> Environment:
    """Return Jinja's environment: every value is escaped.

    Raises:
        UserError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader  # noqa: PLC0415 - for reports
    except ImportError as error:
        raise UserError(f"a report needs jinja2: {EXTRA}") from error
    made = Environment(
        loader=PackageLoader("dinodiet.results.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    made.filters |= {"data": data, "csv": csv_text, "body": body}
    return made


def body(table: Table, links: Links) -> str:
    """Return the rows of a table as HTML: a template takes three times as long, and there may be thousands."""
    return _markup("\n".join(f"<tr>{''.join(_cells(row, links))}</tr>" for row in table.rows))


def _cells(row: Sequence[Cell], links: Links) -> Iterator[str]:
    for place, cell in enumerate(row):
        order = "" if cell.order is None else f' data-order="{html.escape(str(cell.order))}"'
        mark, kind = "", ""
        if cell.mark:
            sign, said = MARKS[cell.mark]
            mark, kind = f'<span class="mark" title="{said}"> {sign}</span>', f' class="{cell.mark}"'
        link = links.run(cell.run) if cell.run else None
        text = html.escape(cell.text)
        shown = text if link is None else f'<a href="{html.escape(link)}">{text}</a>'
        tag, scope = ("td", "") if place else ("th", ' scope="row"')
        yield f"<{tag}{scope}{order}{kind}>{shown}{mark}</{tag}>"


def data(plot: Plot) -> str:
    """Return traces and layout as JSON that can stand in a script element: no tag can begin in it."""
    text = json.dumps(_finite({"traces": plot.traces, "layout": plot.layout}), separators=(",", ":"))
    return _markup(text.replace("<", "\\u003c"))


def csv_text(plot: Plot) -> str:
    """Return the numbers of a plot as CSV, as they stand in a script element."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([plot.heads, *plot.numbers])
    return _markup(json.dumps(stream.getvalue()).replace("<", "\\u003c"))


def _markup(text: str) -> str:
    from markupsafe import Markup  # noqa: PLC0415 - comes with Jinja

    return Markup(text)


def _finite(value: Any) -> Any:
    """Return a value whose numbers are finite: JSON has no others; plotly leaves out what is null."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
