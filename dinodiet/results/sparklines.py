"""Curves as one line of text each: blocks of eighths, or ASCII where a terminal's encoding has no blocks."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-~=+*#"  # from the lowest value to the highest


def levels() -> str:
    """Return the letters that what Python prints to can show."""
    try:
        BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


def sparkline(values: Sequence[float], width: int, letters: str = BLOCKS) -> str:
    """Return values, evenly spaced, as one letter each; of more than `width` the means of as many parts.

    The lowest value has the first letter and the highest one the last; all the same: the first one. A value that is not
    finite is a blank.
    """
    parts = min(width, len(values))
    means = [_mean(values[len(values) * i // parts : len(values) * (i + 1) // parts]) for i in range(parts)]
    known = [value for value in means if math.isfinite(value)]
    if not known:
        return " " * parts
    low, span = min(known), max(known) - min(known)
    return "".join(_letter((value - low) / (span or 1.0), letters) for value in means)


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _letter(share: float, letters: str) -> str:
    return letters[min(int(share * len(letters)), len(letters) - 1)] if math.isfinite(share) else " "
