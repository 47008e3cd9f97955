"""How one training went, as figures: loss and scores over epochs, and scores before and after. By matplotlib."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dinodiet.results.render import number
from dinodiet.results.score_rows import ScoreRow
from dinodiet.results.training_curves import Curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_BARS, MOST_LINES, MOST_PANELS, WIDEST = 20, 10, 24, 4
BEFORE, AFTER = "#b0b0b0", "C0"


def progress_figure(losses: Curves, scores: Curves, rows: Sequence[ScoreRow]) -> Figure:
    """Return three panels: the loss, scores on validation over epochs, and scores on test before and after.

    Scores beyond -1 to 1 (a rank, a distance) have other scales: they stand in tables and in `validation_figure`.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes a second

    figure = Figure(figsize=(15, 4.5), layout="constrained")
    loss, validation, bars = figure.subplots(1, 3)
    _lines(loss, losses, "loss")
    _lines(validation, {name: line for name, line in scores.items() if _is_bounded(line)}, "scores on validation")
    _bars(bars, [row for row in rows if row.initial is not None and row.final is not None])
    return figure


def validation_figure(scores: Curves) -> Figure:
    """Return a panel for each score on validation over epochs, with the first and the last value beside the points."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes a second

    shown = dict([*scores.items()][:MOST_PANELS])
    columns = min(len(shown), WIDEST)
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(3.4 * columns, 2.8 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for ax, (name, line) in zip(axes, shown.items(), strict=False):
        ax.plot(*zip(*line, strict=True), marker="o", markersize=3)
        for epoch, value in dict.fromkeys((line[0], line[-1])):
            ax.annotate(number(value), (epoch, value), fontsize="small", ha="center", va="bottom")
        ax.margins(0.15)
        ax.set_title(name, fontsize="small")
        ax.set_xlabel("epoch", fontsize="small")
    for ax in axes[len(shown) :]:
        ax.set_visible(False)
    return figure


def _is_bounded(line: Sequence[tuple[float, float]]) -> bool:
    return all(abs(value) <= 1 or math.isnan(value) for _, value in line)


def _lines(ax: Axes, curves: Curves, title: str) -> None:
    for name, line in [*curves.items()][:MOST_LINES]:
        ax.plot(*zip(*line, strict=True), label=name, marker="o" if len(line) < MOST_LINES else None, markersize=3)
    ax.set(title=title, xlabel="epoch")
    if curves:
        ax.legend(fontsize="x-small")


def _bars(ax: Axes, rows: Sequence[ScoreRow]) -> None:
    """Draw two horizontal bars for each score, the first score at the top."""
    shown = [row for row in rows if _is_bounded([(0, row.initial or 0), (0, row.final or 0)])][:MOST_BARS]
    places = range(len(shown))
    ax.barh([place - 0.2 for place in places], [row.initial or 0 for row in shown], 0.4, color=BEFORE, label="initial")
    ax.barh([place + 0.2 for place in places], [row.final or 0 for row in shown], 0.4, color=AFTER, label="final")
    ax.set_yticks(list(places), labels=[row.name for row in shown], fontsize="x-small")
    ax.invert_yaxis()
    ax.set(title="scores on test, before and after")
    if shown:
        ax.legend(fontsize="x-small")
