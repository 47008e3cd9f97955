"""A comparison as tables: what was paired, its differences and tests, mean ranks, and what a reader should know."""

from __future__ import annotations

import math
from typing import Any

from dinodiet.results.compare import ALL_CELLS, LEVEL, Comparison
from dinodiet.results.endings import Style
from dinodiet.results.render import grid, number, titled


def report(found: Comparison, style: Style = "text") -> str:
    """Return a comparison as tables."""
    parts = [titled(title_of(found), grid(*pair_table(found), style), style)]
    if found.ranked:
        parts.append(titled(rank_title(found), grid(*rank_table(found), style), style))
    return "\n\n".join(parts)


def title_of(found: Comparison) -> str:
    """Return what a table of pairs shows."""
    over = ", ".join(found.over)
    return (
        f"{found.metric}, {found.phase}: {found.key}, paired by {', '.join(found.cells)} and {over}; "
        f"mean difference with {LEVEL:.0%} interval, p after Holm's correction"
        f"{'; lower is better' if found.lower else '' if found.ranked else '; neither direction is better'}"
    )


def pair_table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the pairs of values, cell by cell; without wins where neither direction is better."""
    header = ["pair", *found.cells, "pairs", "first", "second", "difference", "interval", "paired t", "Wilcoxon"]
    rows = [_row(row, found) for row in found.pairs.to_dict("records")]
    if found.ranked:
        return [*header, "wins/ties/losses"], rows
    return header, [row[:-1] for row in rows]


def rank_title(found: Comparison) -> str:
    """Return what a table of ranks shows."""
    friedman = "" if math.isnan(found.friedman) else f"; Friedman p = {_p(found.friedman)}"
    return f"mean rank over {found.ranks['cells'].iloc[0]} cells (1 is best){friedman}"


def rank_table(found: Comparison) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the mean ranks."""
    ranks = [[str(row.value), number(float(str(row.mean_rank)))] for row in found.ranks.itertuples()]
    return [found.key, "mean rank"], ranks


def _row(row: dict[Any, Any], found: Comparison) -> list[str]:
    interval = (
        "-" if math.isnan(row["low"]) else f"{number(row['low'], signed=True)} to {number(row['high'], signed=True)}"
    )
    values = [number(row["first"]), number(row["second"]), number(row["difference"], signed=True), interval]
    tests = [_p(row["p_t_holm"], row["n"]), _p(row["p_wilcoxon_holm"], row["n"])]
    cell = [str(row[name]) for name in found.cells]
    count = f"{row['n']}" if ALL_CELLS not in cell else f"{row['n']} cells"
    return [row["pair"], *cell, count, *values, *tests, f"{row['wins']}/{row['ties']}/{row['losses']}"]


def _p(value: float, pairs: int = 2) -> str:
    if math.isnan(value):
        return "no test: 1 pair" if pairs < 2 else "no test: all equal"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def notes(found: Comparison) -> list[str]:
    """Say what a reader should know: runs without partner, and numbers of pairs that cannot be significant."""
    said = []
    if found.unpaired:
        said.append(f"without a partner, and left out: {', '.join(found.unpaired)}")
    most = int(found.pairs.loc[found.pairs[found.cells[0]] != ALL_CELLS, "n"].max())
    if 2 <= most < 6:
        said.append(f"Wilcoxon's p of {most} pairs is at least {2 / 2**most:g}: within a cell it cannot be significant")
    return said
