"""Trackers: where metrics go besides the run directory. One small interface; none and Weights & Biases."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal, Protocol

from dinodiet.errors import UserError


class Tracker(Protocol):
    """Hears of a run: its configuration, metrics by step, and its summary."""

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Begin, or continue, the record of a run."""
        ...

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Note metrics at an optimiser step."""
        ...

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Note the final scores and close the record."""
        ...


class NoTracker:
    """Keeps nothing beyond the run directory."""

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Do nothing."""

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Do nothing."""

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Do nothing."""


class Wandb:
    """Weights & Biases. A resumed run continues its record, since the run id is its name there too.

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

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Begin the record below `folder`; its files lie in `folder/wandb`."""
        import wandb  # noqa: PLC0415 - a second of start-up that other runs do not pay

        mode = self._mode
        if mode == "online" and not _has_account():
            warnings.warn(
                "tracker: no W&B account is set up here (wandb login); keeping the record offline", stacklevel=2
            )
            mode = "offline"
        settings = wandb.Settings(silent=True, console="off")
        options: dict[str, Any] = {**self._options, "id": run_id, "name": run_id, "config": config, "dir": str(folder)}
        try:
            self._run = wandb.init(mode=mode, resume="allow", settings=settings, **options)
        except (wandb.errors.CommError, wandb.errors.UsageError) as error:
            warnings.warn(f"tracker: W&B cannot be reached ({error}); keeping the record offline", stacklevel=2)
            self._run = wandb.init(mode="offline", settings=settings, **options)

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Note metrics at an optimiser step."""
        if self._run is not None:
            self._run.log(metrics, step=step)

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Note the final scores and close the record; a no-op where it was never begun."""
        if self._run is not None:
            self._run.summary.update(summary)
            self._run.finish(exit_code=exit_code)
            self._run = None


def _has_account() -> bool:
    import wandb  # noqa: PLC0415

    return bool(wandb.api.api_key)
