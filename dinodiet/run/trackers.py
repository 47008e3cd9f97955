"""Trackers: where metrics go besides the run directory. none, and Weights & Biases; see `types.tracker`."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from dinodiet.errors import UserError, one_line
from dinodiet.store.rundir import RunDir
from dinodiet.types import Tracker

FIGURES, TABLES = (".png", ".jpg", ".jpeg"), (".csv",)
ID_LENGTH = 64  # the longest id of a run that W&B takes


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


class Guarded:
    """A tracker that never stops a run: whatever it raises becomes one warning, and it is asked no more."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker: Tracker = tracker

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Begin, or continue, the record of a run."""
        self._try(lambda tracker: tracker.start(run_id, config, folder))

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Note metrics at an optimiser step."""
        self._try(lambda tracker: tracker.log(metrics, step))

    def figure(self, name: str, path: Path) -> None:
        """Show an image file."""
        self._try(lambda tracker: tracker.figure(name, path))

    def table(self, name: str, path: Path) -> None:
        """Show a CSV file."""
        self._try(lambda tracker: tracker.table(name, path))

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Note the final scores and close the record."""
        self._try(lambda tracker: tracker.finish(summary, exit_code))

    def _try(self, act: Callable[[Tracker], None]) -> None:
        try:
            act(self._tracker)
        except Exception as error:
            failed, self._tracker = type(self._tracker).__name__, NoTracker()
            text = f"tracker: {failed} failed ({type(error).__name__}: {one_line(error)}); the run goes on without it"
            warnings.warn(text, stacklevel=3)


def show_artefacts(tracker: Tracker, folder: Path) -> None:
    """Show what evaluators wrote into a folder: each figure and table, named by its path without the suffix."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if path.suffix.lower() in FIGURES:
            tracker.figure(name, path)
        elif path.suffix.lower() in TABLES:
            tracker.table(name, path)


class Wandb:
    """Weights & Biases: a run is named by study and run id there, and grouped by study.

    A resumed run continues its record. Online W&B sees to that. Offline it would leave a part for every start: the
    record is written anew instead, from `metrics.jsonl`, so that `wandb sync` finds one whole run.

    `mode: online` without an account or network turns into `offline` with a warning: tracking never stops a run.
    """

    def __init__(
        self,
        *,
        project: str = "dinodiet",
        entity: str | None = None,
        mode: Literal["online", "offline", "disabled"] = "online",
        tags: list[str] | None = None,
    ) -> None:
        if not project:
            raise UserError("project: must not be empty")
        self._options: dict[str, Any] = {"project": project, "entity": entity, "tags": tags}
        self._mode: Literal["online", "offline", "disabled"] = mode
        self._run: Any = None
        self._earlier: RunDir | None = None  # holds what was logged before this start, until that is logged again

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Begin the record below `folder`; its files lie in `folder/wandb`."""
        import wandb  # noqa: PLC0415 - a second of start-up that other runs do not pay

        mode = self._mode
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            warnings.warn(
                "tracker: no W&B account is set up here (wandb login); keeping the record offline", stacklevel=2
            )
            mode = "offline"
        study = str(config["name"])
        options = {**self._options, "id": wandb_id(study, run_id), "name": run_id, "group": study}
        options |= {"config": config, "dir": str(folder), "settings": wandb.Settings(silent=True, console="off")}
        if mode == "offline":
            self._forget_parts(folder, options["id"])
        try:
            self._run = wandb.init(mode=mode, resume="allow", **options)
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:
            warnings.warn(f"tracker: W&B cannot be reached ({error}); keeping the record offline", stacklevel=2)
            self._forget_parts(folder, options["id"])
            self._run = wandb.init(mode="offline", **options)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Note metrics at an optimiser step."""
        if self._run is not None:
            self._log_earlier(before=step)
            self._run.log(metrics, step=step)

    def figure(self, name: str, path: Path) -> None:
        """Show an image file."""
        if self._run is not None:
            import wandb  # noqa: PLC0415

            self._run.log({name: wandb.Image(str(path))})

    def table(self, name: str, path: Path) -> None:
        """Show a CSV file whose first line names the columns."""
        if self._run is not None:
            import wandb  # noqa: PLC0415

            with path.open(newline="") as stream:
                columns, *rows = csv.reader(stream)
            self._run.log({name: wandb.Table(columns=[*columns], data=[*rows])})

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Note the final scores and close the record; a no-op where it was never begun."""
        if self._run is not None:
            self._log_earlier()
            self._run.summary.update(summary)
            self._run.finish(exit_code=exit_code)
            self._run = None

    def _forget_parts(self, folder: Path, record: str) -> None:
        """Remove the offline parts of earlier starts: what they hold is in `metrics.jsonl` too, and is logged again."""
        for part in (folder / "wandb").glob(f"offline-run-*-{record}"):
            shutil.rmtree(part)
            self._earlier = RunDir(folder)

    def _log_earlier(self, before: int | None = None) -> None:
        """Log once more what earlier starts logged, up to the checkpoint that this start continues from."""
        if self._earlier is None:
            return
        for row in self._earlier.read_metrics():
            if before is None or row["step"] < before:
                self._run.log({key: value for key, value in row.items() if key != "step"}, step=row["step"])
        self._earlier = None


def wandb_id(study: str, run_id: str) -> str:
    """Return the id of a run at W&B: of another study another one; of letters that W&B takes, and short enough."""
    text = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{study}-{run_id}")
    if len(text) <= ID_LENGTH:
        return text
    return f"{text[: ID_LENGTH - 9]}-{hashlib.sha256(f'{study}/{run_id}'.encode()).hexdigest()[:8]}"
