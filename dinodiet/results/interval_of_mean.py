"""The 95 % interval of a mean over values that vary in more ways than one: by run and by draw of labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

LEVEL = 0.95


def interval_of_mean(values: pd.DataFrame, ways: Sequence[list[str]]) -> tuple[float, float]:
    """Return the ends of Student's t interval of the mean of the column `value`; NaN where nothing varies.

    Values of one run share what its seed brought, and values of one draw share its images: they are no independent
    values. So each of the `ways`, columns that name runs or draws, adds the squared standard error of its means, as of
    two random effects that are crossed; degrees of freedom are Satterthwaite's (1946, Biometrics Bulletin 2, 110). What
    is left within both is counted twice: the interval is wider than need be, never narrower.
    """
    from scipy import stats  # noqa: PLC0415 - takes a second

    means = [values.groupby(columns)["value"].mean() for columns in ways]
    errors = [(float(one.var()) / len(one), len(one) - 1) for one in means if len(one) > 1]
    if not errors:
        return math.nan, math.nan
    mean, total = float(values["value"].mean()), sum(error for error, _ in errors)
    if total == 0:
        return mean, mean
    freedom = total**2 / sum(error**2 / degrees for error, degrees in errors)
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(total)
    return mean - half, mean + half
