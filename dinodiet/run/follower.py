"""What the processes of a run do that write nothing: they train with the first one, embed with it what it
scores, and wait where it is alone.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import replace
from types import FrameType

from torch import Tensor

from dinodiet.config.identity import training_identity
from dinodiet.config.settings import Settings
from dinodiet.io.leaving import signals_to
from dinodiet.processes.group import any_of, first_says, wait_for_all
from dinodiet.processes.helping import help_first
from dinodiet.run import checkpoint
from dinodiet.run.embedding_tasks import Known, known_of
from dinodiet.run.finished import run_dir_of
from dinodiet.run.monitor import Pace
from dinodiet.run.parts import Parts
from dinodiet.run.trackers import UNTRACKED
from dinodiet.run.train import begin, continued_parts, pace_of, train
from dinodiet.store.status import Preempted
from dinodiet.training.shards import whole_method
from dinodiet.types import Clock


class Follower:
    """The `on_step` of a process that is not the first: every agreement of `Monitor`, in the same order."""

    def __init__(self, parts: Parts, pace: Pace, known: Known) -> None:
        self._state, self._strategy, self._pace, self._known = parts.state, parts.strategy, pace, known
        self._signal: str | None = None

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Catch signals while the loop runs."""
        with signals_to(self._on_signal):
            yield

    def on_step(self, clock: Clock, logs: dict[str, Tensor]) -> None:
        """Hear of a finished step.

        Raises:
            Preempted: a process was told to stop.
        """
        last = clock.step == clock.total_steps
        if self._pace.logs(clock):
            self._state.method.diagnostics()  # of the rows of all processes
        if self._pace.is_due(self._pace.keep_every, clock):
            whole_method(self._state.method)
            wait_for_all()
        if self._pace.is_due(self._pace.validate_every, clock):
            with self._strategy.whole():
                help_first(self._known.pieces)
            wait_for_all()
        leave, save = any_of([self._signal is not None, False])
        if leave or save or last:
            self._state.content()
            wait_for_all()
        if leave:
            raise Preempted(self._signal or "another process", clock.step)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name


def follow(settings: Settings) -> None:
    """Train with the first process, where there is something to train; write nothing."""
    if not first_says(None):
        return
    run_dir = run_dir_of(settings)
    content = checkpoint.load(run_dir, training_identity(settings))
    parts = continued_parts(replace(settings, tracker=UNTRACKED), run_dir, content)
    known = known_of(settings, parts)
    help_first(known.pieces)  # with the initial scores
    if content is None and settings.keep_every_epochs is not None:
        whole_method(parts.method)
    begin(parts, content)
    follower = Follower(parts, pace_of(settings, parts), known)
    with follower.watching():
        train(parts, follower.on_step)
    with parts.strategy.whole():
        help_first(known.pieces)  # with the final scores
    wait_for_all()
    whole_method(parts.method)
