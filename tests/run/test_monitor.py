"""What happens between the steps: windows of metrics, progress, validation, and leaving on a signal."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from dinodiet.io.files import read_json
from dinodiet.io.leaving import SIGNALS
from dinodiet.methods.base import MethodBase
from dinodiet.run.monitor import Monitor, Pace
from dinodiet.run.trackers import NoTracker
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import Preempted, Status
from dinodiet.training.state import TrainState
from dinodiet.types import Clock
from tests.small import Encoder

CLOCK = Clock(0, 6, 3)


class Run:
    """A monitor, and what it saved and asked for."""

    def __init__(self, folder: Path, *, log_every: int = 2, validate_every: int | None = None) -> None:
        self.dir, self.saved, self.validated = RunDir(folder), dict[int, Any](), 0
        folder.mkdir(exist_ok=True)
        method = MethodBase(Encoder())
        groups = [{**group.as_dict(), "lr": 0.5} for group in method.param_groups()]
        state = TrainState(method, torch.optim.SGD(groups), torch.amp.GradScaler("cpu", enabled=False), CLOCK)
        self.status = Status(self.dir, "settings")
        self.monitor = Monitor(
            self.dir,
            state,
            NoTracker(),
            self.status,
            Pace(log_every, checkpoint_seconds=1e9, validate_every=validate_every),
            batch_size=8,
            validate=self.validate,
            save=lambda step, seen: self.saved.update({step: seen}),
        )

    def validate(self) -> dict[str, float]:
        self.validated += 1
        return {"knn/accuracy": 0.5}

    def steps(self, first: int, last: int) -> None:
        """Hear of the steps `first` to `last`, each with its number as loss."""
        with self.status, self.monitor.watching(CLOCK.at(first - 1)):
            for step in range(first, last + 1):
                self.monitor.on_step(CLOCK.at(step), {"loss": torch.tensor(float(step))})


def test_a_window_of_metrics_goes_on_after_a_stop(tmp_path: Path) -> None:
    whole, first, second = (Run(tmp_path / name, log_every=3) for name in ("whole", "first", "second"))
    whole.steps(1, 6)
    first.steps(1, 2)
    second.monitor.restore(first.monitor.state())
    second.steps(3, 6)
    losses = [row["loss"] for row in second.dir.read_metrics()]
    assert losses == [row["loss"] for row in whole.dir.read_metrics()] == [2.0, 5.0]
    assert second.monitor.train_seconds > first.monitor.train_seconds


def test_validation_and_checkpoints_come_at_their_steps(tmp_path: Path) -> None:
    run = Run(tmp_path, validate_every=2)
    run.steps(1, 6)
    assert [row["step"] for row in run.dir.read_metrics() if "val/knn/accuracy" in row] == [2, 4]
    assert run.validated == 2  # the final evaluation follows the last step
    assert list(run.saved) == [6]


def test_the_status_tells_the_progress(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.steps(1, 4)
    told = read_json(run.dir.status)
    assert told is not None
    assert (told["step"], told["total_steps"], told["loss"]) == (4, 6, 3.5)
    assert told["seconds_left"] == pytest.approx(2 * 8 / told["images_per_second"], rel=1e-6)
    assert {key for key in next(run.dir.read_metrics()) if key.startswith("lr/")}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_lets_the_step_end_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    run, before = Run(tmp_path), signal.getsignal(number)
    with pytest.raises(Preempted) as caught, run.status, run.monitor.watching(CLOCK):
        run.monitor.on_step(CLOCK.at(1), {"loss": torch.tensor(1.0)})
        os.kill(os.getpid(), number)
        assert not run.saved
        run.monitor.on_step(CLOCK.at(2), {"loss": torch.tensor(1.0)})
    assert (caught.value.signal_name, caught.value.step) == (number.name, 2)
    assert list(run.saved) == [2]
    assert signal.getsignal(number) is before


def test_a_run_that_is_told_to_stop_stops_though_its_checkpoint_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else a sweep would take it for a failure, and go on with the next cell."""
    run = Run(tmp_path)

    def save(step: int, seen: dict[str, Any]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "checkpoint.pt"))

    run.monitor._save = save
    with pytest.raises(Preempted) as caught, run.status, run.monitor.watching(CLOCK):
        os.kill(os.getpid(), signal.SIGTERM)
        run.monitor.on_step(CLOCK.at(3), {"loss": torch.tensor(1.0)})
    assert (caught.value.signal_name, caught.value.step) == ("SIGTERM", None)
    warned = capsys.readouterr().err
    assert "warning: no checkpoint of step 3 could be written: " in warned and "checkpoint.pt" in warned
    with pytest.raises(OSError, match="No space left"), Run(tmp_path).status, run.monitor.watching(CLOCK):
        run.monitor._signal = None
        run.monitor._keep(CLOCK.at(4))


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    run, before = Run(tmp_path), signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with run.status, run.monitor.watching(CLOCK):
            os.kill(os.getpid(), signal.SIGHUP)
            run.monitor.on_step(CLOCK.at(1), {"loss": torch.tensor(1.0)})
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not run.saved


def test_a_second_interrupt_lets_a_checkpoint_be_written(tmp_path: Path) -> None:
    run = Run(tmp_path)
    written = run.monitor._save

    def save(step: int, seen: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        written(step, seen)

    run.monitor._save = save
    with pytest.raises(Preempted), run.status, run.monitor.watching(CLOCK):
        os.kill(os.getpid(), signal.SIGINT)
        run.monitor.on_step(CLOCK.at(1), {"loss": torch.tensor(1.0)})
    assert list(run.saved) == [1]


def test_a_run_in_another_thread_leaves_signals_alone(tmp_path: Path) -> None:
    run, seen = Run(tmp_path), []

    def work() -> None:
        run.steps(1, 6)
        seen.append([signal.getsignal(number) for number in SIGNALS])

    before = [signal.getsignal(number) for number in SIGNALS]
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
    assert list(run.saved) == [6]
