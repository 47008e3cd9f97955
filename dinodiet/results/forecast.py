"""Which cells gain, from label-free measures taken before the training: a ridge regression, and its error.

A cell is all that its seeds have in common. Its gain is the change of a metric, positive where it got better. The model
is linear in the measures, with an offset a method; the strength of the ridge is chosen by generalised cross-validation
(scikit-learn's RidgeCV). How well it does is measured on data sets that it was not fitted on, each left out in turn,
beside the base rate: the mean gain of the method on the other data sets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CELLS, DATASETS = 10, 3  # finished ones that are needed at least
ALPHAS = np.logspace(-6, 4, 21)
CHANCE = 0.025  # by which a forecast of noise may be called better than the base rate
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """What a forecast is worth on data sets that were left out.

    Attributes:
        predicted, base, measured: gains of the cells, by the model, by the base rate and as they were.
        better: the model's mean absolute error is below the base rate's, by a paired t-test over data sets (one-sided,
            2.5 %).
    """

    predicted: Vector
    base: Vector
    measured: Vector
    better: bool

    @property
    def error(self) -> float:
        """The mean absolute error of the model."""
        return float(np.abs(self.predicted - self.measured).mean())

    @property
    def base_error(self) -> float:
        """The mean absolute error of the base rate."""
        return float(np.abs(self.base - self.measured).mean())

    @property
    def spread(self) -> float:
        """The root mean square error of the model."""
        return float(np.sqrt(np.square(self.predicted - self.measured).mean()))

    @property
    def signs(self) -> tuple[int, int]:
        """How many signs of gains the model has right, and the base rate."""
        found = [(side > 0) == (self.measured > 0) for side in (self.predicted, self.base)]
        return int(found[0].sum()), int(found[1].sum())


def lacking(cells: pd.DataFrame) -> str | None:
    """Return what is lacking to fit a forecast to finished cells, in a line; None: nothing."""
    there, sets = len(cells), cells["dataset"].nunique() if len(cells) else 0
    if there >= CELLS and sets >= DATASETS:
        return None
    return (
        f"too few finished cells: {there} on {sets} data sets have a change and label-free measures before the "
        f"training; needed are {CELLS} on {DATASETS}"
    )


def judge(cells: pd.DataFrame, measures: Sequence[str]) -> Judged:
    """Return what forecasts of each data set are worth that are fitted on the other ones.

    `cells` has the columns dataset, method, gain and the measures.
    """
    predicted, base = np.zeros(len(cells)), np.zeros(len(cells))
    datasets = cells["dataset"].to_numpy()
    for name in cells["dataset"].unique():
        out = datasets == name
        predicted[out] = predict(cells[~out], cells[out], measures)
        base[out] = base_rate(cells[~out], cells[out])
    measured = cells["gain"].to_numpy(dtype=float)
    won = pd.Series(np.abs(base - measured) - np.abs(predicted - measured)).groupby(datasets).mean()
    return Judged(predicted, base, measured, _is_above_0(won))


def _is_above_0(values: pd.Series[float]) -> bool:
    from scipy.stats import t  # noqa: PLC0415 - the import takes a second

    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return bool(values.mean() > t.ppf(1 - CHANCE, len(values) - 1) * error)


def predict(fitted_on: pd.DataFrame, cells: pd.DataFrame, measures: Sequence[str]) -> Vector:
    """Return the gains of cells by a model that is fitted on others."""
    from sklearn.linear_model import RidgeCV  # noqa: PLC0415 - the import takes seconds

    methods = sorted(fitted_on["method"].unique())
    known = fitted_on[list(measures)].to_numpy(dtype=float)
    center, width = known.mean(axis=0), known.std(axis=0)
    width[width < 1e-12 * np.maximum(1.0, np.abs(center))] = math.inf  # what does not vary says nothing

    def features(frame: pd.DataFrame) -> Vector:
        scaled = (frame[list(measures)].to_numpy(dtype=float) - center) / width
        offsets = np.array([[float(one == method) for method in methods] for one in frame["method"]])
        return np.hstack([scaled, offsets])

    model = RidgeCV(alphas=ALPHAS).fit(features(fitted_on), fitted_on["gain"].to_numpy(dtype=float))
    found: Vector = model.predict(features(cells))
    return found


def base_rate(fitted_on: pd.DataFrame, cells: pd.DataFrame) -> Vector:
    """Return the mean gain of each cell's method among others, of all methods where its own is not among them."""
    means = fitted_on.groupby("method")["gain"].mean()
    found: Vector = cells["method"].map(means).fillna(fitted_on["gain"].mean()).to_numpy(dtype=float)
    return found


def probability(gain: float, spread: float) -> float:
    """Return how probable it is that a gain is above 0 that is forecast with a spread: of a normal distribution."""
    return 0.5 * (1 + math.erf(gain / (spread * math.sqrt(2)))) if spread > 0 else float(gain > 0)
