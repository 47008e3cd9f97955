"""Progress bars in a terminal and in log files. Imports no torch."""

from __future__ import annotations

import sys


def interval() -> float:
    """Return the seconds between two states of a bar: in a log file a line every half minute."""
    return 0.1 if sys.stderr.isatty() else 30.0
