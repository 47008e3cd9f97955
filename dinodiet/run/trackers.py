"""Trackers: where metrics go besides the run directory; see `types.tracker`. Two have modules of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dinodiet.evals.pictures.thumbnails import THUMBNAILS
from dinodiet.run.tensorboard import TensorBoard
from dinodiet.run.tracked_budgets import budget_means
from dinodiet.run.wandb import Wandb, wandb_id
from dinodiet.types import Tracker

__all__ = ["NoTracker", "TensorBoard", "Wandb", "final_scores", "show_artefacts", "wandb_id"]

UNTRACKED = {"_target_": "dinodiet.run.trackers.NoTracker"}  # the node of what keeps nothing
FIGURES, TABLES = (".png", ".jpg", ".jpeg"), (".csv",)


class NoTracker:
    """Keeps nothing beyond the run directory."""

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Do nothing."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Do nothing."""

    def figure(self, name: str, path: Path) -> None:
        """Do nothing."""

    def table(self, name: str, path: Path) -> None:
        """Do nothing."""

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Do nothing."""


def final_scores(results: Mapping[str, Any]) -> dict[str, float]:
    """Return what a tracker keeps of results.json: scores by `final/knn/accuracy`, on budgets the mean over draws."""
    scores = {f"{phase}/{name}": value for phase in ("initial", "final") for name, value in results[phase].items()}
    return scores | budget_means(results["budgets"])


def show_artefacts(tracker: Tracker, folder: Path) -> None:
    """Show what evaluators wrote into a folder: each figure and table, named by its path without the suffix.

    Thumbnails are for pages alone, which show them one by one.
    """
    for path in sorted(folder.rglob("*")):
        if path.name == THUMBNAILS:
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.suffix.lower() in FIGURES:
            tracker.figure(name, path)
        elif path.suffix.lower() in TABLES:
            tracker.table(name, path)
