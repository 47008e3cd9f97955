"""Plots as plotly's traces and layouts. Nothing by colour alone: lines differ in dash and mark, cells have numbers."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from dinodiet.errors import printable

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8A7000", "#777777")  # Okabe and Ito 2008
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
MARKS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
LONGEST = 40  # letters of a name in a plot; tables have the whole
WORSE_TO_BETTER = ((0, "#B2182B"), (0.25, "#F4A582"), (0.5, "#F7F7F7"), (0.75, "#92C5DE"), (1, "#2166AC"))
LINE = 22  # pixels of a row of names

Trace = dict[str, Any]


def plain(text: object, most: int = LONGEST) -> str:
    """Return a name as plotly shows it letter by letter: it reads tags and entities."""
    name = printable(str(text))
    return html.escape(name if len(name) <= most else name[: most - 1] + "…", quote=False)


def style(place: int) -> dict[str, Any]:
    """Return the colour, dash and mark of the line at a place; 280 lines differ."""
    colour = COLOURS[place % len(COLOURS)]
    dash, mark = DASHES[place % len(DASHES)], MARKS[place % len(MARKS)]
    return {"line": {"color": colour, "dash": dash}, "marker": {"color": colour, "symbol": mark, "size": 7}}


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], place: int) -> Trace:
    """Return the area between two lines."""
    around = {"x": [*x, *reversed(x)], "y": [*high, *reversed(low)]}
    off: dict[str, Any] = {"hoverinfo": "skip", "showlegend": False, "line": {"width": 0}, "mode": "lines"}
    return {**around, **off, "fill": "toself", "fillcolor": COLOURS[place % len(COLOURS)], "opacity": 0.18}


def line(name: str, x: Sequence[float], y: Sequence[float], place: int) -> Trace:
    """Return a line; a single point has a mark, as do few."""
    mode = "lines+markers" if len(x) <= 30 else "lines"
    return {"name": plain(name), "x": list(x), "y": list(y), "mode": mode, **style(place)}


def axes(x: str, y: str, height: int = 340, **more: Any) -> dict[str, Any]:
    """Return a layout with the titles of its axes."""
    below = {"orientation": "h", "y": -0.25, "yanchor": "top"}
    titles = {"xaxis": {"title": {"text": plain(x)}}, "yaxis": {"title": {"text": plain(y)}, "automargin": True}}
    return {**titles, "height": height, "legend": below, "margin": {"t": 20, "r": 20, "l": 60, "b": 60}, **more}


def named_rows(names: Sequence[str], x: str, *, top: bool = False) -> dict[str, Any]:
    """Return a layout whose y axis are names, from the top to the bottom."""
    made = axes(x, "", height=140 + LINE * len(names))
    made["yaxis"] |= {"tickvals": list(range(len(names))), "ticktext": [plain(name) for name in names]}
    made["yaxis"] |= {"range": [len(names) - 0.5, -0.5], "zeroline": False}
    made["xaxis"] |= {"side": "top"} if top else {}
    return made


def dots(
    groups: dict[str, list[tuple[int, float, float, float]]], names: Sequence[str], x: str
) -> tuple[list[Trace], dict[str, Any]]:
    """Return dots with intervals: of each group (row, value, low, high); `names` are those of the rows."""
    traces = []
    for place, (name, found) in enumerate(groups.items()):
        shift = (place - (len(groups) - 1) / 2) * 0.6 / max(len(groups), 2)
        rows, values, lows, highs = zip(*found, strict=True)
        error = {"type": "data", "symmetric": False, "thickness": 1.5}
        error |= {"array": [high - value for value, high in zip(values, highs, strict=True)]}
        error |= {"arrayminus": [value - low for value, low in zip(values, lows, strict=True)]}
        at = {"x": list(values), "y": [row + shift for row in rows], "mode": "markers", "error_x": error}
        traces.append({**at, "name": plain(name), "marker": style(place)["marker"], "hovertemplate": "%{x:.4f}"})
    made = named_rows(names, x)
    made["xaxis"] |= {"zeroline": True, "zerolinewidth": 2}
    return traces, made | {"height": made["height"] + 8 * len(names) * len(groups)}


def heat_map(
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
) -> tuple[list[Trace], dict[str, Any]]:
    """Return gains as colours, worse red and better blue, with the text of each cell in it."""
    limit = max((abs(value) for line in values for value in line if value is not None), default=0.0) or 1.0
    trace = {
        "type": "heatmap", "z": [list(line) for line in values], "zmin": -limit, "zmax": limit,
        "colorscale": [list(stop) for stop in WORSE_TO_BETTER], "colorbar": {"title": {"text": "better by"}},
        "xgap": 2, "ygap": 2, "hoverinfo": "skip",
    }  # fmt: skip
    made = named_rows(rows, "", top=True)
    made["xaxis"] |= {"tickvals": list(range(len(columns))), "ticktext": [plain(name) for name in columns]}
    made["xaxis"] |= {"range": [-0.5, len(columns) - 0.5], "automargin": True}
    made["annotations"] = [
        {
            "x": column,
            "y": row,
            "text": plain(text),
            "showarrow": False,
            "font": {"color": _ink(values[row][column], limit)},
        }
        for row, line in enumerate(texts)
        for column, text in enumerate(line)
    ]
    return [trace], made | {"height": made["height"] + 10 * len(rows)}


def _ink(value: float | None, limit: float) -> str | None:
    """Return the colour of letters on a cell; None: that of the page, where the cell has no colour."""
    if value is None:
        return None
    return "#ffffff" if abs(value) > 0.6 * limit else "#111111"


def rank_line(
    ranks: dict[str, float], cliques: Sequence[Sequence[str]], distance: float
) -> tuple[list[Trace], dict[str, Any]]:
    """Return a critical-difference diagram (Demsar 2006): mean ranks, and bars below those that do not differ."""
    names = sorted(ranks, key=lambda name: ranks[name])
    labels = [f"{name} ({ranks[name]:.2f})" for name in names]
    points = {"x": [ranks[name] for name in names], "y": list(range(len(names))), "mode": "markers"}
    traces: list[Trace] = [{**points, "marker": {"size": 10, "color": COLOURS[0]}, "showlegend": False}]
    for place, clique in enumerate(cliques):
        ends = [ranks[name] for name in clique]
        across = {"x": [min(ends), max(ends)], "y": [len(names) + 0.5 * place] * 2, "mode": "lines"}
        traces.append({**across, "line": {"width": 6, "color": COLOURS[1]}, "showlegend": False, "hoverinfo": "skip"})
    made = named_rows(labels, f"mean rank, 1 is best; critical difference {distance:.2f}")
    made["yaxis"]["range"] = [len(names) + 0.5 * len(cliques), -0.5]
    made["xaxis"]["range"] = [0.8, len(names) + 0.2]
    return traces, made | {"height": made["height"] + 12 * len(cliques)}
