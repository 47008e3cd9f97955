"""How gains follow a label-free measure, backbone by backbone: rank correlation and slope over data sets.

One backbone may gain where its features are least spread, and another one where they are most: of 15 data sets the
published rank correlation of uniformity with the change of k-NN is positive for two encoders and negative for a third
(`sweeps/README.md`). The one slope of a forecast is a mean of such.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dinodiet.results.render import grid, number

SETS = 8  # data sets that are needed at least: of fewer an interval says nothing
DRAWS = 2000  # of the bootstrap over data sets
CONFIDENCE = 0.95
Vector = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Slope:
    """How the gains of a backbone under a method follow a measure.

    Attributes:
        model, method, measure: of what.
        sets: over how many data sets.
        ranks: Spearman's correlation, with the interval of a bootstrap over data sets.
        slope: the gain by which cells differ whose measure differs by one standard deviation, with its t interval.
    """

    model: str
    method: str
    measure: str
    sets: int
    ranks: tuple[float, Interval]
    slope: tuple[float, Interval]

    @property
    def sign(self) -> int:
        """The sign of the slope where its interval and that of the ranks leave out 0, else 0."""
        ends = [*self.ranks[1], *self.slope[1]]
        return int(np.sign(ends[0])) if len({np.sign(end) for end in ends}) == 1 else 0


def slopes(cells: pd.DataFrame, measures: Sequence[str]) -> list[Slope]:
    """Return the slopes of each backbone and method with enough data sets; what does not vary has none.

    `cells` has the columns model, dataset, method, gain and the measures.
    """
    return [
        Slope(model, method, measure, len(means), _ranks(x, gains), _slope(x, gains))
        for model, method, means in _by_backbone(cells, measures)
        if len(means) >= SETS
        for measure in measures
        if _varies(x := means[measure].to_numpy(dtype=float)) and _varies(gains := means["gain"].to_numpy(dtype=float))
    ]


def slopes_told(cells: pd.DataFrame, measures: Sequence[str]) -> list[str]:
    """Return slopes as a table, with what they do not agree in; one line where no backbone has enough data sets."""
    found = slopes(cells, measures)
    if not found:
        most = max((len(means) for *_, means in _by_backbone(cells, measures)), default=0)
        return [f"  how gains follow measures, by backbone: too few data sets, {most} at the most; needed are {SETS}"]
    header = ["model", "method", "measure", "data sets", "Spearman [95 %]", "gain a standard deviation [95 %]"]
    rows = [[one.model, one.method, one.measure, str(one.sets), _text(one.ranks), _text(one.slope)] for one in found]
    title = (
        f"how gains follow measures; backbones with fewer than {SETS} data sets are left out; each interval by itself"
    )
    return ["", title, grid(header, rows, "text"), *_opposite(found, measures)]


def _by_backbone(cells: pd.DataFrame, measures: Sequence[str]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield model, method and the means of a data set each: other settings are no further data sets."""
    for (model, method), group in cells.groupby(["model", "method"], sort=False):
        yield str(model), str(method), group.groupby("dataset", sort=False)[["gain", *measures]].mean()


def _varies(values: Vector) -> bool:
    return bool(values.std() > 1e-12 * max(1.0, float(np.abs(values).max())))


def _ranks(x: Vector, gains: Vector) -> tuple[float, Interval]:
    """Return Spearman's correlation and its bootstrap interval; draws in which nothing varies are left out."""
    drawn = np.random.default_rng(0).integers(len(x), size=(DRAWS, len(x)))
    of_draws = _spearman(x[drawn], gains[drawn])
    low, high = np.nanquantile(of_draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(_spearman(x[None], gains[None])[0]), (float(low), float(high))


def _spearman(x: Vector, y: Vector) -> Vector:
    """Return the correlation of the ranks of each row of x and y; NaN where one has a single rank."""
    from scipy.stats import rankdata  # noqa: PLC0415 - the import takes a second

    ranks = [rankdata(side, axis=1) for side in (x, y)]
    one, two = (side - side.mean(axis=1, keepdims=True) for side in ranks)
    width = np.sqrt((one**2).sum(axis=1) * (two**2).sum(axis=1))
    found: Vector = (one * two).sum(axis=1) / np.where(width > 0, width, math.nan)
    return found


def _slope(x: Vector, gains: Vector) -> tuple[float, Interval]:
    """Return the least-squares slope for x in standard deviations, with its t interval."""
    from scipy.stats import linregress, t  # noqa: PLC0415 - as above

    fitted = linregress((x - x.mean()) / x.std(ddof=1), gains)
    around = float(t.ppf((1 + CONFIDENCE) / 2, len(x) - 2) * fitted.stderr)
    return float(fitted.slope), (float(fitted.slope) - around, float(fitted.slope) + around)


def _text(found: tuple[float, Interval]) -> str:
    value, (low, high) = found
    return f"{number(value, signed=True)} [{number(low, signed=True)}, {number(high, signed=True)}]"


def _opposite(found: Sequence[Slope], measures: Sequence[str]) -> list[str]:
    """Name the measures that some backbones gain with, and others against: one slope for all is wrong there."""
    signs = {measure: {one.sign for one in found if one.measure == measure} for measure in measures}
    opposite = [measure for measure, these in signs.items() if {-1, 1} <= these]
    told = f"{', '.join(opposite)}: some rise with it and others fall; a forecast has one slope for all backbones"
    return [told] if opposite else []
