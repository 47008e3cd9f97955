"""Which mean ranks over data sets differ: Nemenyi's critical difference (Demsar 2006, JMLR 7, section 3.2.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping

LEVEL = 0.95


def critical_difference(values: int, cells: int) -> float:
    """Return by how much mean ranks of some values over some cells must differ, for all pairs of values at once.

    q is the quantile of the studentized range for infinitely many degrees of freedom, over the root of 2.
    """
    from scipy import stats  # noqa: PLC0415 - takes a second

    q = float(stats.studentized_range.ppf(LEVEL, values, math.inf)) / math.sqrt(2)
    return q * math.sqrt(values * (values + 1) / (6 * cells))


def alike(ranks: Mapping[str, float], distance: float) -> list[list[str]]:
    """Return the largest groups whose mean ranks lie within a distance, from the best on; single ones are left out."""
    names = sorted(ranks, key=lambda name: ranks[name])
    groups: list[list[str]] = []
    for first, name in enumerate(names):
        group = [other for other in names[first:] if ranks[other] - ranks[name] <= distance]
        if len(group) > 1 and not (groups and set(group) <= set(groups[-1])):
            groups.append(group)
    return groups
