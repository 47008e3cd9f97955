"""The picture of a landscape: contours of losses and accuracies, and where the training went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dinodiet.results.figures import save

LEVELS = 20
COLOURS = {"teacher": "C3", "student": "C1"}


def draw(frame: pd.DataFrame, path: pd.DataFrame, kind: str, place: Path) -> None:
    """Draw the kind of loss that was trained on, and k-NN, over the plane; without effect on a line of points."""
    names = [name for name in (f"train_{kind}", f"val_{kind}", "val_knn", "val_knn_norm") if name in frame]
    names = [name for name in names if frame[name].notna().any()]
    if names and min(frame["x"].nunique(), frame["y"].nunique()) > 1:
        save(figure(frame, path, names), place)


def figure(frame: pd.DataFrame, path: pd.DataFrame, names: list[str]) -> Any:
    """Return a figure with a panel for each column in `names`; points that are missing stay white."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - takes a second

    drawn = Figure(figsize=(4.4 * len(names), 4.2), layout="constrained")
    for ax, name in zip(np.atleast_1d(drawn.subplots(1, len(names))), names, strict=True):
        values = frame.pivot_table(index="y", columns="x", values=name, dropna=False)
        shown = np.ma.masked_invalid(values.to_numpy(dtype=float))
        contours = ax.contourf(values.columns, values.index, shown, levels=LEVELS)
        drawn.colorbar(contours, ax=ax)
        _draw_path(ax, path)
        ax.set(title=name, xlabel="x", ylabel="y")
    drawn.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize="x-small")
    return drawn


def _draw_path(ax: Any, path: pd.DataFrame) -> None:
    """Draw the steps of student and teacher, and mark the three points of the plane."""
    limits = ax.get_xlim(), ax.get_ylim()
    for role, colour in COLOURS.items():
        steps = path[(path["what"] == role) & path["step"].notna()].sort_values("step")
        ax.plot(steps["x"], steps["y"], ".-", color=colour, linewidth=1, label=role)
    corners = path[path["step"].isna()]
    ax.plot(corners["x"], corners["y"], "k+", markersize=10, label="points of the plane")
    ax.set(xlim=limits[0], ylim=limits[1])
