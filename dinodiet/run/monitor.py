"""What happens between the steps: metrics, progress bar, validation scores, checkpoints, and leaving on a signal."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from tqdm import tqdm

from dinodiet.store.rundir import RunDir
from dinodiet.store.status import Preempted, Status
from dinodiet.types import Clock, Method, Tracker

SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


class Monitor:
    """The `on_step` of a run. Nothing here changes what is learned.

    A signal (SIGTERM, SIGUSR2, Ctrl-C) lets the running step end, writes a checkpoint and raises `Preempted`.

    Args:
        validate: returns validation scores; called every `every_steps` steps (None: never) but not after the last.
        save: writes a checkpoint of everything at the given step.
    """

    def __init__(
        self,
        *,
        run_dir: RunDir,
        method: Method,
        optimizer: Optimizer,
        tracker: Tracker,
        status: Status,
        log_every: int,
        checkpoint_seconds: float,
        every_steps: int | None,
        validate: Callable[[], dict[str, float]],
        save: Callable[[int], None],
        batch_size: int,
    ) -> None:
        self._run_dir, self._method, self._optimizer = run_dir, method, optimizer
        self._tracker, self._status = tracker, status
        self._log_every, self._checkpoint_seconds, self._every_steps = log_every, checkpoint_seconds, every_steps
        self._validate, self._save, self._batch_size = validate, save, batch_size
        self._window: dict[str, Tensor] = {}
        self._window_steps = 0
        self.train_seconds = 0.0
        self._signal: str | None = None
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
        in_main = threading.current_thread() is threading.main_thread()  # the only one that may handle signals
        before = {number: signal.signal(number, self._on_signal) for number in SIGNALS if in_main}
        # In a log file a line every half minute, on a terminal a live bar.
        interval = 0.1 if sys.stderr.isatty() else 30.0
        self._bar = tqdm(
            total=clock.total_steps, initial=clock.step, desc="training", unit="step", mininterval=interval
        )
        self._left = self._saved = time.monotonic()
        try:
            yield
        finally:
            self._bar.close()
            for number, handler in before.items():
                signal.signal(number, handler)

    def on_step(self, clock: Clock, logs: dict[str, Tensor]) -> None:
        """Hear of a finished step; `clock.step` steps are done."""
        self.train_seconds += time.monotonic() - self._left
        last = clock.step == clock.total_steps
        self._status.update(step=clock.step)
        for key, value in logs.items():
            self._window[key] = self._window.get(key, 0) + value
        self._window_steps += 1
        if clock.step % self._log_every == 0 or last:
            self._log(clock)
        if self._every_steps is not None and clock.step % self._every_steps == 0 and not last:
            self._record(clock, {f"val/{name}": value for name, value in self._validate().items()})
        if self._signal or last or time.monotonic() - self._saved >= self._checkpoint_seconds:
            self._save(clock.step)
            self._saved = time.monotonic()
        if self._signal:
            raise Preempted(self._signal, clock.step)
        assert self._bar is not None
        self._bar.update()
        self._left = time.monotonic()

    def _log(self, clock: Clock) -> None:
        means = {key: (value / self._window_steps).item() for key, value in self._window.items()}
        self._window, self._window_steps = {}, 0
        rates = {f"lr/{group['name']}": group["lr"] for group in self._optimizer.param_groups}
        self._record(clock, {**means, **self._method.diagnostics(), **rates})
        assert self._bar is not None
        done = self._bar.n + 1 - self._bar.initial
        seconds = self._bar.format_dict["elapsed"]
        steps_per_second = done / max(seconds, 1e-9)
        speed, left = steps_per_second * self._batch_size, (clock.total_steps - clock.step) / steps_per_second
        self._status.update(loss=means["loss"], images_per_second=speed, seconds_left=left)
        self._bar.set_postfix_str(f"loss {means['loss']:.4g}, {speed:.0f} images/s", refresh=False)

    def _record(self, clock: Clock, metrics: dict[str, float]) -> None:
        epoch = round(clock.step / clock.steps_per_epoch, 4)
        self._run_dir.append_metrics({"step": clock.step, "epoch": epoch, **metrics})
        self._tracker.log({"epoch": epoch, **metrics}, clock.step)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name
        if number == signal.SIGINT:  # a second Ctrl-C leaves at once
            signal.signal(signal.SIGINT, signal.default_int_handler)
