"""What happens between the steps of a fine-tuning: metrics, scores on val, checkpoints, and leaving on a signal."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor
from tqdm import tqdm

from dinodiet.evals.finetuning.kept import Outcome
from dinodiet.io.files import without_nan, write_atomically, write_text
from dinodiet.io.leaving import leave_now, signals_to
from dinodiet.store.status import Preempted
from dinodiet.types import Clock

LOG_EVERY = 10  # steps


class Watch:
    """The `on_step` of one fine-tuning. Nothing here changes what is learned.

    Args:
        outcome: is told losses and scores.
        validated: the steps after which val is scored.
        validate: returns the metrics on val, the one to choose by first.
        weights: returns a copy of the weights.
        save: keeps a state.
        seconds: between two checkpoints.
        curve: the file that gets a line for each row of the outcome; None: there is none.
    """

    def __init__(
        self,
        outcome: Outcome,
        validated: set[int],
        validate: Callable[[], dict[str, float]],
        weights: Callable[[], dict[str, Tensor]],
        save: Callable[[dict[str, Any]], None],
        seconds: float,
        curve: Path | None,
    ) -> None:
        self.outcome, self._validated, self._validate, self._weights = outcome, validated, validate, weights
        self._save, self._seconds, self._curve = save, seconds, curve
        self.best: dict[str, Tensor] = {}
        self._sum, self._steps = 0.0, 0
        self._signal: str | None = None
        self._bar: tqdm[Any] | None = None
        self._saved = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Return what a continued training needs to say the same."""
        return {"outcome": vars(self.outcome), "best": self.best, "sum": self._sum, "steps": self._steps}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the state of a stopped training."""
        vars(self.outcome).update(state["outcome"])
        self.best, self._sum, self._steps = state["best"], state["sum"], state["steps"]

    @contextlib.contextmanager
    def watching(self, clock: Clock) -> Iterator[None]:
        """Show progress and catch signals while the loop runs."""
        if self._curve is not None:  # rows that came after the checkpoint are written again
            text = "".join(map(_line, self._named_rows()))
            write_atomically(self._curve, lambda stream: write_text(stream, text))
        with signals_to(self._on_signal), _progress(self.outcome.name, clock) as self._bar:
            self._saved = time.monotonic()
            yield

    def _named_rows(self) -> Iterator[dict[str, Any]]:
        return ({"lr": self.outcome.lr, "seed": self.outcome.seed, **row} for row in self.outcome.rows)

    def on_step(self, clock: Clock, logs: dict[str, Tensor]) -> None:
        """Hear of a finished step; `clock.step` steps are done."""
        loss, last = logs["loss"].item(), clock.step == clock.total_steps
        outcome = self.outcome
        outcome.first_loss, outcome.last_loss = loss if clock.step == 1 else outcome.first_loss, loss
        self._sum, self._steps = self._sum + loss, self._steps + 1
        if clock.step % LOG_EVERY == 0 or last:
            self._record(clock, {"loss": self._sum / self._steps})
            self._sum, self._steps = 0.0, 0
        if clock.step in self._validated:
            self._judge(clock)
        if self._signal or (not last and time.monotonic() - self._saved >= self._seconds):
            self._save({"step": clock.step, "watch": self.state()})
            self._saved = time.monotonic()
        if self._signal:
            raise Preempted(self._signal)
        assert self._bar is not None
        self._bar.update()

    def _judge(self, clock: Clock) -> None:
        outcome = self.outcome
        outcome.val = self._validate()
        self._record(clock, {f"val/{name}": value for name, value in outcome.val.items()})
        if not outcome.best_val or quality(outcome.val) > quality(outcome.best_val):
            outcome.best_val, outcome.best_step, self.best = outcome.val, clock.step, self._weights()

    def _record(self, clock: Clock, metrics: dict[str, float]) -> None:
        self.outcome.rows.append({"step": clock.step, "epoch": round(clock.step / clock.steps_per_epoch, 4), **metrics})
        if self._curve is not None:
            with self._curve.open("a") as stream:
                stream.write(_line(next(reversed(list(self._named_rows())))))

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        if number == signal.SIGINT:  # a second one waits for nothing: what is kept is written whole or not at all
            signal.signal(signal.SIGINT, leave_now)


def quality(metrics: dict[str, float]) -> float:
    """Return what trainings are chosen by: accuracy, or of several labels the AUROC; the lowest where undefined."""
    value = metrics.get("accuracy", metrics.get("auroc", math.nan))
    return -math.inf if value is None or math.isnan(value) else value


def _line(row: dict[str, Any]) -> str:
    return json.dumps(without_nan(row)) + "\n"


def _progress(name: str, clock: Clock) -> tqdm[Any]:
    """Return a live bar on a terminal; in a log file it is a line every half minute."""
    interval = 0.1 if sys.stderr.isatty() else 30.0
    what = f"fine-tuning, {name}"
    return tqdm(total=clock.total_steps, initial=clock.step, desc=what, unit="step", mininterval=interval, leave=False)
