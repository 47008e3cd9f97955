"""Studies read back as tables: pandas only, no torch. `python -m dinodiet.results --help` is the command."""

import sys

from dinodiet.io.leaving import leave_on_signals

if sys.argv[:1] == ["-m"]:  # Python is looking for the command: the imports below take a second
    leave_on_signals()

from dinodiet.results.summary import main_table
from dinodiet.results.tidy import collect

__all__ = ["collect", "main_table"]
