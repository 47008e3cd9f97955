"""A rate is measured by real steps, all over the schedule."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from dinodiet.config.gate import gate
from dinodiet.config.rates import FILE, read_rates
from dinodiet.errors import UserError
from dinodiet.methods.diet import DIET
from dinodiet.run import rate as module
from dinodiet.run.rate import PLACES, STEPS, measured_rate, places
from dinodiet.sweep.planning.measure import measure
from dinodiet.sweep.task import task_of
from dinodiet.types import Batch, Clock
from tests.running import CHOICES, composed


def test_places_are_spread_and_leave_room_for_their_steps() -> None:
    assert places(800) == [50, 150, 250, 350, 450, 550, 650, 750]
    assert places(12) == [1, 2, 4, 4, 4, 4, 4, 4]
    assert places(3) == [0] * PLACES
    assert max(places(1000)) + STEPS <= 1000


def test_the_rate_is_the_mean_over_the_schedule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of the second half take 40 ms more: so much more than a step is 20 ms on average.

    The clock is the CPU's: on a busy machine steps of a few milliseconds differ by more than that.
    """
    forward, waited = DIET.forward, [0.0]

    def slower(self: DIET, batch: Batch, clock: Clock) -> Any:
        waited[0] += 0.04 if clock.step >= 0.5 * clock.total_steps else 0.0
        return forward(self, batch, clock)

    monkeypatch.setattr(module, "_now", lambda device: time.process_time() + waited[0])

    config = composed(tmp_path, "schedule.epochs=100", "mode=measure")
    plain = measured_rate(gate(config, CHOICES))
    with monkeypatch.context() as patch:
        patch.setattr(DIET, "forward", slower)
        rate = measured_rate(gate(config, CHOICES))
    assert rate.steps_per_epoch == plain.steps_per_epoch == 4
    assert 0.02 <= rate.seconds < 0.03 + 4 * plain.seconds
    assert plain.seconds > 0


def test_a_grid_is_measured_once_and_gives_its_runs_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def tasks(*words: str) -> list[Any]:
        cells = [("seed=0", *words), ("seed=1", *words), ("method=frozen", *words)]
        chosen = [{**CHOICES, "method": "frozen" if "method=frozen" in cell else "diet"} for cell in cells]
        return [task_of(composed(tmp_path, *c), named, c) for c, named in zip(cells, chosen, strict=True)]

    measure(tasks("mode=measure", "schedule.minutes=0.1"))
    (rate,) = read_rates(tmp_path / "default").values()
    first = capsys.readouterr().out
    assert "1 trainings, 0 of them measured before" in first and "0.1 minutes are" in first
    written = (tmp_path / "default" / FILE).read_bytes()
    measure(tasks("mode=measure"))
    assert "1 of them measured before" in capsys.readouterr().out
    assert (tmp_path / "default" / FILE).read_bytes() == written
    assert {task.settings().schedule.steps for task in tasks("schedule.minutes=0.1")[:2]} == {rate.steps_in(0.1)}


def test_too_short_a_training_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"schedule.epochs: 1 step in all; a rate is measured from 2 on"):
        measured_rate(gate(composed(tmp_path, "schedule.epochs=0.25", "mode=measure"), CHOICES))
