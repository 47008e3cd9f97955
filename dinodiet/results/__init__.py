"""Studies read back as tables: pandas only, no torch. `python -m dinodiet.results --help` is the command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from dinodiet.io.leaving import leave_on_signals

if TYPE_CHECKING:
    from dinodiet.results.summary import main_table
    from dinodiet.results.tidy import collect

if sys.argv[:1] == ["-m"]:  # Python is looking for the command: its imports may take a second
    leave_on_signals()

__all__ = ["collect", "main_table"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: the command answers without pandas where nothing changed."""
    if name == "collect":
        from dinodiet.results.tidy import collect  # noqa: PLC0415

        return collect
    if name == "main_table":
        from dinodiet.results.summary import main_table  # noqa: PLC0415

        return main_table
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
