"""Curves and heat maps as PNG or SVG. Matplotlib's object interface: no windows, no global state."""

from __future__ import annotations

import math
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

SUFFIXES = (".png", ".svg")
WIDEST = 4  # panels side by side


def draw_curves(data: pd.DataFrame, metric: str, plan: Layout, path: Path) -> None:
    """Draw a panel for each column of the layout and a line for each row; the band is one sd over seeds."""
    panels = _panels(data, plan.cols)
    figure, axes = _figure(len(panels), (4.2, 3.2))
    lines = list(dict.fromkeys(_labels(data, plan.rows)))
    for ax, (title, part) in zip(axes, panels.items(), strict=True):
        for label, line in part.groupby(_labels(part, plan.rows), sort=False):
            color = f"C{lines.index(str(label)) % 10}"
            ax.plot(line["epoch"], line["mean"], color=color, label=_with_n(str(label), line["n"]))
            ax.fill_between(line["epoch"], line["mean"] - line["sd"], line["mean"] + line["sd"], color=color, alpha=0.2)
        ax.set(title=title, xlabel="epoch", ylabel=metric)
        ax.legend(fontsize="x-small")
    _save(figure, path)


def _with_n(label: str, counts: pd.Series[int]) -> str:
    low, high = counts.min(), counts.max()
    return f"{label} (n = {low})" if low == high else f"{label} (n = {low} to {high})"


def draw_heat_map(cells: pd.DataFrame, plan: Layout, path: Path) -> None:
    """Draw mean changes as colours, red for worse and blue for better, white where nothing changed."""
    shown = [*plan.rows[-1:], *plan.cols]
    panels = _panels(cells, plan.rows[:-1])
    limit = cells["mean"].abs().max()
    limit = limit if limit > 0 else 1.0
    sides = [list(dict.fromkeys(_labels(cells, names))) for names in (shown[:1], shown[1:])]
    figure, axes = _figure(len(panels), (1.6 + 1.1 * len(sides[1]), 1.4 + 0.5 * len(sides[0])))
    for ax, (title, part) in zip(axes, panels.items(), strict=True):
        grid = part.assign(row=_labels(part, shown[:1]), column=_labels(part, shown[1:]))
        means, states = (
            grid.pivot(index="row", columns="column", values=name).reindex(index=sides[0], columns=sides[1])
            for name in ("mean", "state")
        )
        _panel(ax, means, states, limit)
        ax.set_title(title)
    title = f"change of {plan.metrics[0]}, mean over {', '.join(plan.over)}"
    figure.suptitle(title)
    _save(figure, path)


def _panel(ax: Axes, means: pd.DataFrame, states: pd.DataFrame, limit: float) -> None:
    values = means.to_numpy(dtype=float)
    ax.imshow(values, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    ax.set_xticks(range(len(means.columns)), labels=list(means.columns), rotation=30, ha="right")
    ax.set_yticks(range(len(means.index)), labels=list(means.index))
    for (row, column), value in np.ndenumerate(values):
        there = not math.isnan(value)
        words = number(value, signed=True) if there else str(states.iloc[row, column]).replace("nan", "-")
        dark = there and abs(value) > 0.6 * limit
        ax.text(column, row, words, ha="center", va="center", fontsize=8, color="white" if dark else "black")


def _panels(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, pd.DataFrame]:
    labels = _labels(frame, names)
    return {str(label): part for label, part in frame.groupby(labels, sort=False)}


def _labels(frame: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Return one label a row: the values of the named columns, numbers with the last part of the column's name."""
    if not names:
        return [""] * len(frame)
    rows = frame[list(names)].itertuples(index=False, name=None)
    return [", ".join(_label(name, value) for name, value in zip(names, row, strict=True)) for row in rows]


def _label(name: str, value: str) -> str:
    return f"{name.rpartition('.')[2]}={value}" if "." in name else str(value)


def _figure(panels: int, size: tuple[float, float]) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes a second

    columns = min(panels, WIDEST)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax in axes[panels:]:
        ax.set_visible(False)
    return figure, axes[:panels]


def _save(figure: Figure, path: Path) -> None:
    write_atomically(path, lambda stream: figure.savefig(stream, format=path.suffix[1:], dpi=150))
