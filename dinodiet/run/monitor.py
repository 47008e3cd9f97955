"""What happens between the steps: metrics, progress bar, validation scores, checkpoints, and leaving on a signal."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch import Tensor
from tqdm import tqdm

from dinodiet.errors import one_line
from dinodiet.io.bars import interval
from dinodiet.io.leaving import leave_now, signals_to
from dinodiet.io.limits import limit_of
from dinodiet.processes.gathering import is_shared
from dinodiet.processes.group import any_of, wait_for_all
from dinodiet.run import console, learning
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import Preempted, Status
from dinodiet.training.state import TrainState
from dinodiet.types import Clock, Tracker


@dataclass(frozen=True)
class Pace:
    """How often a run logs, validates and keeps weights, in steps (None: never), and checkpoints, in seconds."""

    log_every: int
    checkpoint_seconds: float
    validate_every: int | None = None
    keep_every: int | None = None

    def logs(self, clock: Clock) -> bool:
        """Return whether metrics are written now: every so many steps, and after the last one."""
        return clock.step % self.log_every == 0 or clock.step == clock.total_steps

    def is_due(self, every: int | None, clock: Clock) -> bool:
        """Return whether what is done every so many steps is to be done now; after the last step nothing is."""
        return every is not None and clock.step % every == 0 and clock.step != clock.total_steps


class Monitor:
    """The `on_step` of a run. Nothing here changes what is learned.

    A signal (SIGTERM, SIGUSR2, SIGHUP, Ctrl-C) lets the running step end, writes a checkpoint and raises `Preempted`.
    Python delivers signals to the main thread alone: a run in another one is not interrupted.

    Args:
        run_dir: where metrics go.
        state: what is trained.
        tracker: hears of the metrics too.
        status: is told the progress.
        pace: how often.
        batch_size: images a step.
        validate: returns validation scores; never called after the last step, which the final evaluation follows.
        save: writes a checkpoint of everything at the given step, with this object's state.
        keep: writes the weights of the given step, which stay; those of the last step stay in any case.
    """

    def __init__(
        self,
        run_dir: RunDir,
        state: TrainState,
        tracker: Tracker,
        status: Status,
        pace: Pace,
        *,
        batch_size: int,
        validate: Callable[[], dict[str, float]],
        save: Callable[[int, dict[str, Any]], None],
        keep: Callable[[int], None] = lambda step: None,
    ) -> None:
        self._run_dir, self._state, self._tracker, self._status, self._pace = run_dir, state, tracker, status, pace
        self._batch_size, self._validate, self._save = batch_size, validate, save
        self._keep_weights = keep
        self._window: dict[str, Tensor] = {}
        self._window_steps = 0
        self.train_seconds = 0.0
        self._signal: str | None = None
        self._saving = False
        self._bar: tqdm[Any] | None = None
        self._left = self._saved = time.monotonic()

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs to write the same metrics."""
        return {"window": self._window, "window_steps": self._window_steps, "train_seconds": self.train_seconds}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the state of an interrupted run."""
        self._window, self._window_steps = state["window"], state["window_steps"]
        self.train_seconds = state["train_seconds"]

    @contextlib.contextmanager
    def watching(self, clock: Clock) -> Iterator[None]:
        """Show progress and catch signals while the loop runs."""
        self._status.update(phase="training", step=clock.step, total_steps=clock.total_steps)
        with signals_to(self._on_signal), _progress(clock) as self._bar:
            self._left = self._saved = time.monotonic()
            yield

    def on_step(self, clock: Clock, logs: dict[str, Tensor]) -> None:
        """Hear of a finished step; `clock.step` steps are done."""
        self.train_seconds += time.monotonic() - self._left
        last = clock.step == clock.total_steps
        self._status.update(step=clock.step)
        for key, value in logs.items():
            self._window[key] = self._window.get(key, 0) + value
        self._window_steps += 1
        if self._pace.logs(clock):
            self._log(clock)
        if self._pace.is_due(self._pace.keep_every, clock):
            self._keep_weights(clock.step)
            wait_for_all()
        if self._pace.is_due(self._pace.validate_every, clock):
            self._record(clock, {f"val/{name}": value for name, value in self._validate().items()})
            wait_for_all()
        due = time.monotonic() - self._saved >= self._pace.checkpoint_seconds
        leave, save = any_of([self._signal is not None, due])
        if leave or save or last:
            self._keep(clock)
            wait_for_all()
        if leave or (self._signal and not is_shared()):  # others would not know of a signal that came since
            raise Preempted(self._signal or "another process", clock.step)
        assert self._bar is not None
        self._bar.update()
        self._left = time.monotonic()

    def _keep(self, clock: Clock) -> None:
        """Write a checkpoint; where that fails and the run was told to stop, it is left all the same.

        Raises:
            Preempted: it was told to stop; the checkpoint before, if there is one, is what it continues from.
        """
        self._saving = True
        try:
            self._save(clock.step, self.state())
        except Exception as error:
            if not self._signal:
                raise
            found = limit_of(error) or error
            console.warn([f"no checkpoint of step {clock.step:,} could be written: {one_line(found)}"])
            raise Preempted(self._signal) from error
        self._saved, self._saving = time.monotonic(), False

    def _log(self, clock: Clock) -> None:
        means = {key: (value / self._window_steps).item() for key, value in self._window.items()}
        diagnostics = self._state.method.diagnostics()
        if learning.is_due(clock, self._window_steps):
            learning.tell(clock, self._findings(means, diagnostics))
        self._window, self._window_steps = {}, 0
        rates = {f"lr/{group['name']}": group["lr"] for group in self._state.optimizer.param_groups}
        self._record(clock, {**means, **diagnostics, **rates})
        assert self._bar is not None
        done, seconds = self._bar.n + 1 - self._bar.initial, max(self._bar.format_dict["elapsed"], 1e-9)
        speed = done * self._batch_size / seconds
        self._status.update(
            loss=means["loss"],
            images_per_second=speed,
            seconds_left=(clock.total_steps - clock.step) * seconds / done,
        )
        self._bar.set_postfix_str(f"loss {means['loss']:.4g}, {speed:.0f} images/s", refresh=False)

    def _findings(self, means: dict[str, float], diagnostics: dict[str, float]) -> Iterator[str]:
        yield from learning.guesses(means, self._state.method.guessing())
        yield from learning.collapses(diagnostics)
        yield from learning.overflows(self._state.scaler)

    def _record(self, clock: Clock, metrics: dict[str, float]) -> None:
        epoch = round(clock.step / clock.steps_per_epoch, 4)
        self._run_dir.append_metrics({"step": clock.step, "epoch": epoch, **metrics})
        self._tracker.log({"epoch": epoch, **metrics}, clock.step)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, self._on_second)

    def _on_second(self, number: int, frame: FrameType | None) -> None:
        """Leave at once on a second Ctrl-C, but let a checkpoint that is being written end; a third waits for nothing.

        An exception in the middle of torch's writer would be told as a failure of the disk.
        """
        signal.signal(signal.SIGINT, leave_now)
        if not self._saving:
            raise Preempted(signal.Signals(number).name)


def _progress(clock: Clock) -> tqdm[Any]:
    """Return a live bar on a terminal; in a log file it is a line every half minute."""
    return tqdm(
        total=clock.total_steps,
        initial=clock.step,
        desc="training",
        unit="step",
        mininterval=interval(),
        disable=not clock.total_steps,
    )
