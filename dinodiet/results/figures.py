"""Curves and heat maps as PNG or SVG. Matplotlib's object interface: no windows, no global state."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dinodiet.io.files import write_atomically
from dinodiet.results.render import number
from dinodiet.results.table import Layout

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

AXES = {"labels_per_class": "labelled images a class", "label_fraction": "fraction of train with labels"}
WIDEST = 4  # panels side by side
LETTERS = 9  # to an inch, at the 12 points of titles
SMALL_LETTERS = 14  # letters of a legend in an inch


def draw_curves(data: pd.DataFrame, title: str, plan: Layout, path: Path) -> None:
    """Draw a panel for each column of the layout and a line for each row; the band is one sd over seeds.

    `title` names the quantity at the axes. One legend serves all panels, with the number of runs behind each line.
    """
    save(curves_figure(data, title, plan), path)


def curves_figure(data: pd.DataFrame, title: str, plan: Layout) -> Figure:
    """Return the figure of `draw_curves`."""
    panels = _panels(data, [name for name in plan.cols if name in data])
    figure, axes = _figure(panels, (3.2, 3.2), ticks=1.0)
    rows = [name for name in plan.rows if name in data]
    labels = labels_of(data, rows)
    colors = {label: f"C{place % 10}" for place, label in enumerate(dict.fromkeys(labels))}
    for ax, (name, part) in zip(axes, panels.items(), strict=True):
        for label, line in part.groupby(labels_of(part, rows), sort=False):
            color, marker = colors[label], "o" if len(line) == 1 else None  # a line of one point cannot be seen
            ax.plot(line["epoch"], line["mean"], color=color, marker=marker)
            ax.fill_between(line["epoch"], line["mean"] - line["sd"], line["mean"] + line["sd"], color=color, alpha=0.2)
        ax.set(title=name, xlabel="epoch", ylabel=title)
    _legend(figure, {_with_n(label, data["n"][labels == label]): color for label, color in colors.items()})
    return figure


def draw_label_curves(data: pd.DataFrame, column: str, metric: str, plan: Layout, path: Path) -> None:
    """Draw a panel for each column of the layout and a line for each row and arm, over labels (logarithmic).

    The band is the 95 % interval of the mean over seeds and draws; see `label_curves`.
    """
    save(label_curves_figure(data, column, metric, plan), path)


def label_curves_figure(data: pd.DataFrame, column: str, metric: str, plan: Layout) -> Figure:
    """Return the figure of `draw_label_curves`."""
    panels = _panels(data, [name for name in plan.cols if name in data])
    figure, axes = _figure(panels, (3.2, 3.2), ticks=1.0)
    names = [*(name for name in plan.rows if name in data), "arm"]
    labels = _without_blanks(labels_of(data, names))
    colors = {label: f"C{place % 10}" for place, label in enumerate(dict.fromkeys(labels))}
    for ax, (name, part) in zip(axes, panels.items(), strict=True):
        for label, line in part.groupby(labels[part.index], sort=False):
            style = "--" if line["arm"].iloc[0] == "before" else "-"
            ax.plot(line["labels"], line["mean"], style, color=colors[label], marker="o", markersize=3)
            ax.fill_between(line["labels"], line["low"], line["high"], color=colors[label], alpha=0.2)
        ticks = sorted(set(part["labels"]))
        ax.set_xscale("log")
        ax.set_xticks(ticks, labels=[f"{tick:.4g}" for tick in ticks], fontsize="small")
        ax.minorticks_off()
        ax.set(title=name, xlabel=AXES[column], ylabel=metric)
    _legend(figure, {_with_n(label, data["n"][labels == label]): color for label, color in colors.items()})
    figure.suptitle("mean and its 95 % interval over runs and draws of labels", fontsize="small")
    return figure


def _without_blanks(labels: pd.Series[str]) -> pd.Series[str]:
    """Return labels without the parts that say nothing."""
    return labels.map(lambda label: ", ".join(part for part in label.split(", ") if part.rpartition("=")[2]))


def _legend(figure: Figure, colors: dict[str, str]) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415 - takes a second

    lines = [Line2D([], [], color=color, label=label) for label, color in colors.items()]
    entry = 0.6 + max(map(len, colors)) / SMALL_LETTERS  # inches, with the line before it
    fit = max(1, min(len(lines), 3, int(figure.get_figwidth() / entry)))
    figure.legend(handles=lines, loc="outside lower center", ncols=fit, fontsize="x-small")


def _with_n(label: str, counts: pd.Series[int]) -> str:
    low, high = counts.min(), counts.max()
    count = f"n = {low}" if low == high else f"n = {low} to {high}"
    return f"{label} ({count})" if label else count


def draw_heat_map(cells: pd.DataFrame, plan: Layout, path: Path) -> None:
    """Draw mean changes as colours: red for worse, blue for better, white where nothing changed.

    Of a metric that is better when it is lower, blue is a negative change; where neither is better, all is white.
    """
    save(heat_map_figure(cells, plan), path)


def heat_map_figure(cells: pd.DataFrame, plan: Layout) -> Figure:
    """Return the figure of `draw_heat_map`."""
    shown = [*plan.rows[-1:], *plan.cols]
    panels = _panels(cells.assign(gain=gains(cells, plan)), plan.rows[:-1])
    limit = cells["mean"].abs().max()
    limit = limit if limit > 0 else 1.0
    sides = [list(dict.fromkeys(labels_of(cells, names))) for names in (shown[:1], shown[1:])]
    names = max(map(len, sides[0])) / LETTERS
    figure, axes = _figure(panels, (1.1 * len(sides[1]), 1.4 + 0.5 * len(sides[0])), ticks=0.4 + names)
    for ax, (name, part) in zip(axes, panels.items(), strict=True):
        grid = part.assign(row=labels_of(part, shown[:1]), column=labels_of(part, shown[1:]))
        wide = {
            name: grid.pivot(index="row", columns="column", values=name).reindex(index=sides[0], columns=sides[1])
            for name in ("gain", "mean", "state")
        }
        image = _panel(ax, wide, limit)
        ax.set_title(name)
    figure.colorbar(image, ax=axes, label="better by" if plan.lower else "change")
    lower = " (lower is better)" if plan.lower and len(plan.metrics) == 1 else ""
    title = f"change of {', '.join(plan.metrics)}{lower}, mean over {', '.join(plan.over)}"
    figure.suptitle("\n".join(textwrap.wrap(title, round(LETTERS * figure.get_figwidth()))))
    return figure


def gains(cells: pd.DataFrame, plan: Layout) -> pd.Series[float]:
    """Return the changes for the better; NaN where neither direction is."""
    metrics = cells["metric"] if "metric" in cells else pd.Series(plan.metrics[0], index=cells.index)
    signed: pd.Series[float] = cells["mean"].where(~metrics.isin(plan.lower), -cells["mean"])
    coloured: pd.Series[float] = signed.where(~metrics.isin(plan.unranked))
    return coloured


def _panel(ax: Axes, wide: dict[str, pd.DataFrame], limit: float) -> AxesImage:
    better, means, states = (wide[name] for name in ("gain", "mean", "state"))
    image = ax.imshow(better.to_numpy(dtype=float), cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    ax.set_xticks(range(len(means.columns)), labels=list(means.columns), rotation=30, ha="right")
    ax.set_yticks(range(len(means.index)), labels=list(means.index))
    for (row, column), value in np.ndenumerate(means.to_numpy(dtype=float)):
        there = not math.isnan(value)
        words = number(value, signed=True) if there else str(states.iloc[row, column]).replace("nan", "-")
        dark = there and abs(better.iloc[row, column]) > 0.6 * limit
        ax.text(column, row, words, ha="center", va="center", fontsize=8, color="white" if dark else "black")
    return image


def _panels(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    return {str(label): part for label, part in frame.groupby(labels_of(frame, names), sort=False)}


def labels_of(frame: pd.DataFrame, names: Sequence[str]) -> pd.Series[str]:
    """Return one label a row: the values of the named columns, numbers with the last part of the column's name.

    A series, and no list: pandas takes a list of one label for the name of a column.
    """
    if not names:
        return pd.Series("", index=frame.index)
    rows = frame[list(names)].itertuples(index=False, name=None)
    texts = [", ".join(_label(name, value) for name, value in zip(names, row, strict=True)) for row in rows]
    return pd.Series(texts, index=frame.index, dtype=object)


def _label(name: str, value: str) -> str:
    return f"{name.rpartition('.')[2]}={value}" if "." in name else str(value)


def _figure(panels: dict[str, Any], size: tuple[float, float], ticks: float) -> tuple[Figure, list[Any]]:
    """Return a figure and the axes of its panels; a panel is as wide as its title, and `ticks` inches for its axis."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes a second

    columns = min(len(panels), WIDEST)
    rows = math.ceil(len(panels) / columns)
    width = max(size[0], max(map(len, panels)) / LETTERS) + ticks
    figure = Figure(figsize=(width * columns, size[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    return figure, axes[: len(panels)]


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, by the file's ending; letters that its font lacks are boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        write_atomically(path, lambda stream: figure.savefig(stream, format=path.suffix[1:], dpi=150))
