"""Studies read back as tables: pandas only, no torch. `python -m dinodiet.results --help` is the command."""

from dinodiet.results.summary import main_table
from dinodiet.results.tidy import collect

__all__ = ["collect", "main_table"]
