"""The contract of trackers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol


class Tracker(Protocol):
    """Hears of a run: its configuration, metrics by step, what evaluators drew, and its final scores."""

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Begin, or continue, the record of a run; `folder` is the run directory, `config["name"]` its study."""
        ...

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Note metrics at an optimiser step."""
        ...

    def figure(self, name: str, path: Path) -> None:
        """Show an image file that lies in the run directory."""
        ...

    def table(self, name: str, path: Path) -> None:
        """Show a CSV file that lies in the run directory; its first line names the columns."""
        ...

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Note the final scores and close the record."""
        ...
