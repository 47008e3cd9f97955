"""Settings compared on equal terms: paired by cell and seed, tested, corrected for the number of tests, and ranked.

Within a cell (model x dataset ...) the seeds are the pairs. Over the grid the cells are (their mean differences, one a
cell: Demsar 2006, JMLR 7), as the seeds of one cell say nothing about another. Tests are scipy's, Holm's correction is
that of statsmodels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from dinodiet.errors import UserError
from dinodiet.results.runs import Run, has_no_best, lower_is_better
from dinodiet.results.table import as_text
from dinodiet.results.tidy import matches, resolve, run_frame, text, tidy

Array = np.ndarray[Any, np.dtype[np.float64]]
ALL_CELLS = "all cells"
LEVEL = 0.95
PHASE, ENDS = "phase", ("initial", "final")  # compared as if it were a column: what the training changed


@dataclass(frozen=True)
class Comparison:
    """What `compare` finds.

    Attributes:
        key, values: the compared column and its values; differences are second - first of each pair of values.
        metric, phase, over: what was compared; `over` tells the pairs within a cell apart (the seed).
        cells: the columns that name a cell.
        pairs: one row per pair of values and cell, and one over all cells: n, the two means, difference, low and high
            (95 % interval), p_t and p_wilcoxon, both also after Holm's correction, wins, ties, losses (of the second).
        ranks: mean rank of each value over the cells that have all values; 1 is best.
        friedman: p of Friedman's test on those ranks; NaN for fewer than three values or cells.
        unpaired: runs without a partner.
        lower: whether less is better; wins and ranks follow it, differences do not.
        ranked: whether one of two values can be the better; else wins and ranks mean nothing, and `report` tells none.
    """

    key: str
    values: tuple[str, ...]
    metric: str
    phase: str
    over: tuple[str, ...]
    cells: tuple[str, ...]
    pairs: pd.DataFrame
    ranks: pd.DataFrame
    friedman: float
    unpaired: list[str]
    lower: bool = False
    ranked: bool = True


def compare(
    runs: Sequence[Run],
    key: str,
    values: Sequence[Any] = (),
    *,
    metric: str,
    phase: str = "final",
    over: Iterable[str] = ("seed",),
) -> Comparison:
    """Compare the values of a column (all of them, if none are given), pair by pair.

    The key `phase` compares each run's final score with its initial one, where the two were measured alike.

    Raises:
        UserError: no such column, fewer than two of its values have runs, or no runs to pair.
    """
    over = tuple(resolve(name, runs) for name in over)
    if key == PHASE:
        if values and tuple(values) != ENDS:
            raise UserError(f"{PHASE}: {', '.join(map(text, values))}; it has {', '.join(ENDS)} and no other values")
        return _phases(runs, metric, over)
    key = resolve(key, runs)
    if key in over:
        raise UserError(f"{key}: cannot be compared and averaged over; name another column, or others in over")
    chosen, lower = _values(runs, key, values), lower_is_better(metric, runs)
    kept = [run for run in runs if matches(run.record.get(key), chosen)]
    differ = run_frame(kept, used=(key, *over)).columns
    frame = run_frame(kept, [*dict.fromkeys([*differ, key, *over])])
    cells = [name for name in frame.columns if name not in ("run", key, *over)]
    cells = [name for name in cells if frame[name].nunique(dropna=False) > 1] or ["dataset"]
    scores = tidy(kept, [metric], [*cells, key, *over])
    scores = as_text(scores[(scores["phase"] == phase) & scores["value"].notna()], [*cells, key, *over])
    wide = scores.pivot_table(index=[*cells, *over], columns=key, values="value", sort=False).reindex(columns=chosen)
    rows = [row for pair in itertools.combinations(chosen, 2) for row in _pair_rows(wide, pair, cells, lower)]
    if not rows:
        others = ", ".join(cells)
        raise UserError(f"{key}: no two runs differ in it alone (same {others}, {', '.join(over)}); narrow by --where")
    means = _by_cell(wide, cells).mean().dropna()
    alone = wide[wide.isna().any(axis=1)]
    unpaired = scores.set_index([*cells, *over]).loc[alone.index.unique(), "run"].tolist() if len(alone) else []
    return Comparison(
        key, tuple(chosen), metric, phase, over, tuple(cells), _corrected(pd.DataFrame(rows)),
        _ranks(means, lower), _friedman(means), unpaired, lower, not has_no_best(metric, runs),
    )  # fmt: skip


def _phases(runs: Sequence[Run], metric: str, over: tuple[str, ...]) -> Comparison:
    """Return the comparison of final with initial scores, run by run."""
    frame = run_frame(runs, used=over)
    differ = [name for name in frame.columns if name not in ("run", *over) and frame[name].nunique(dropna=False) > 1]
    cells, lower = differ or ["dataset"], lower_is_better(metric, runs)
    scores = tidy(runs, [metric], ["run", *cells, *over])
    paired = scores.loc[(scores["phase"] == "change") & scores["value"].notna(), ["study", "run"]]
    if paired.empty:
        raise UserError(f"{PHASE}: no run has {metric} before and after its training, measured alike")
    kept = as_text(scores.merge(paired), [*cells, *over])
    kept["phase"] = kept["phase"].astype(str)
    index = list(dict.fromkeys([*cells, *over, "study", "run"]))
    wide = kept.pivot_table(index=index, columns="phase", values="value", sort=False)[list(ENDS)]
    final = scores.loc[scores["phase"] == "final", ["study", "run"]]
    left_out = ~pd.MultiIndex.from_frame(final).isin(pd.MultiIndex.from_frame(paired))
    measured = final.loc[left_out, "run"]
    means = _by_cell(wide, cells).mean()
    return Comparison(
        PHASE, ENDS, metric, "change", over, tuple(cells),
        _corrected(pd.DataFrame(_pair_rows(wide, ENDS, cells, lower))),
        _ranks(means, lower), math.nan, measured.tolist(), lower, not has_no_best(metric, runs),
    )  # fmt: skip


def _values(runs: Sequence[Run], key: str, values: Sequence[Any]) -> list[str]:
    there = list(dict.fromkeys(text(run.record.get(key)) for run in runs))
    chosen = [next((one for one in there if matches(one, [value])), text(value)) for value in values] or there
    if len(set(chosen) & set(there)) < max(len(chosen), 2):
        raise UserError(f"{key}: compare needs two of its values or more; there are: {', '.join(there)}")
    return chosen


def _pair_rows(wide: pd.DataFrame, pair: tuple[str, str], cells: list[str], lower: bool) -> list[dict[str, Any]]:
    """Return a row for each cell that has pairs, and one over all cells where there are several."""
    both = wide[list(pair)].dropna()
    sign = -1 if lower else 1
    rows, means = [], []
    for cell, part in _by_cell(both, cells):
        first, second = part[pair[0]].to_numpy(), part[pair[1]].to_numpy()
        names = cell if isinstance(cell, tuple) else (cell,)
        rows.append({"pair": _name(pair), **dict(zip(cells, names, strict=True)), **statistics(first, second, sign)})
        means.append((first.mean(), second.mean()))
    if len(rows) > 1:
        first, second = np.array(means).T
        rows.append({"pair": _name(pair), **dict.fromkeys(cells, ALL_CELLS), **statistics(first, second, sign)})
    return rows


def _by_cell(wide: pd.DataFrame, cells: list[str]) -> Any:
    # A list of one level: before pandas 3, a warning that groups will have other names.
    return wide.groupby(level=cells if len(cells) > 1 else cells[0], sort=False)


def _name(pair: tuple[str, str]) -> str:
    return f"{pair[1]} - {pair[0]}"


def statistics(first: Array, second: Array, sign: int = 1) -> dict[str, float]:
    """Return the statistics of paired values, second - first; NaN where they do not exist.

    One pair has no test. Where all differences are equal there is no t; where all are 0 there is no Wilcoxon either.
    `sign` -1: less is better, for wins and losses.
    """
    from scipy import stats  # noqa: PLC0415 - takes a second

    difference = second - first
    found = {"n": len(difference), "first": first.mean(), "second": second.mean(), "difference": difference.mean()}
    found |= dict.fromkeys(("low", "high", "p_t", "p_wilcoxon"), math.nan)
    if len(difference) > 1 and np.ptp(difference) > 1e-12:
        test = stats.ttest_rel(second, first)
        low, high = test.confidence_interval(LEVEL)
        found |= {"low": low, "high": high, "p_t": test.pvalue}
    rounded = difference.round(12)  # equal differences are ties, whatever the last bit says
    if len(difference) > 1 and rounded.any():
        found["p_wilcoxon"] = stats.wilcoxon(rounded).pvalue
    wins, losses = int((sign * rounded > 0).sum()), int((sign * rounded < 0).sum())
    return found | {"wins": wins, "ties": len(difference) - wins - losses, "losses": losses}


def _corrected(pairs: pd.DataFrame) -> pd.DataFrame:
    """Add Holm's p: over all cells and pairs of values; the rows over all cells are a family of their own."""
    from statsmodels.stats.multitest import multipletests  # noqa: PLC0415 - takes a second

    overall = pairs.iloc[:, 1] == ALL_CELLS
    for name in ("p_t", "p_wilcoxon"):
        pairs[f"{name}_holm"] = math.nan
        for family in (overall, ~overall):
            tested = family & pairs[name].notna()
            if tested.any():
                pairs.loc[tested, f"{name}_holm"] = multipletests(pairs.loc[tested, name], method="holm")[1]
    return pairs


def _ranks(means: pd.DataFrame, lower: bool) -> pd.DataFrame:
    from scipy import stats  # noqa: PLC0415

    sign = 1 if lower else -1
    ranks = stats.rankdata(sign * means.to_numpy().round(12), axis=1)
    return pd.DataFrame(
        {"value": means.columns, "mean_rank": ranks.mean(axis=0) if len(means) else math.nan, "cells": len(means)}
    )


def _friedman(means: pd.DataFrame) -> float:
    from scipy import stats  # noqa: PLC0415

    if means.shape[1] < 3 or len(means) < 3:
        return math.nan
    return float(stats.friedmanchisquare(*means.to_numpy().T).pvalue)
