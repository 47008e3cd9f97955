"""Equal time: minutes become steps by a rate that was measured, once, and runs keep their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinodiet.config.gate import gate
from dinodiet.config.identity import rate_id, run_id
from dinodiet.config.rates import FILE, Rate, read_rates, write_rate
from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.sweep.task import task_of
from tests.running import CHOICES, composed

RATE = Rate(seconds=0.25, steps_per_epoch=4, device="cpu")


def settings(tmp_path: Path, *words: str) -> Settings:
    return gate(composed(tmp_path, *words), CHOICES, words)


def measured(tmp_path: Path, rate: Rate = RATE) -> None:
    unmeasured = settings(tmp_path, "schedule.minutes=2", "mode=measure")
    write_rate(unmeasured.study, rate_id(unmeasured), rate)


def test_minutes_are_steps_by_the_measured_rate() -> None:
    assert RATE.steps_in(2.0) == 480
    assert RATE.steps_in(0.001) == 1


def test_a_run_of_minutes_is_the_run_of_their_steps(tmp_path: Path) -> None:
    measured(tmp_path)
    timed = settings(tmp_path, "schedule.minutes=2")
    assert (timed.schedule.steps, timed.schedule.minutes) == (480, None)
    assert run_id(timed) == run_id(settings(tmp_path, "schedule.steps=480"))
    assert run_id(timed) == run_id(settings(tmp_path, "schedule.minutes=2", "schedule.epochs=9"))
    assert run_id(timed) != run_id(settings(tmp_path, "schedule.minutes=3"))


def test_a_task_keeps_its_steps_whatever_is_measured_later(tmp_path: Path) -> None:
    measured(tmp_path)
    task = task_of(composed(tmp_path, "schedule.minutes=2"), CHOICES, ("schedule.minutes=2",))
    measured(tmp_path, Rate(0.5, 4, "cpu"))
    assert run_id(task.settings()) == task.cell.run_id


def test_seeds_and_lengths_share_a_rate_and_nothing_else_does(tmp_path: Path) -> None:
    own = rate_id(settings(tmp_path))
    for words in (("seed=3",), ("schedule.epochs=9",), ("schedule.steps=7",), ("seed=1", "device=auto")):
        assert rate_id(settings(tmp_path, *words)) == own
    for word in ("schedule.batch_size=8", "method=dino", "precision=bf16", "dataset.limit=32"):
        assert rate_id(settings(tmp_path, word)) != own


def test_what_was_not_measured_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^schedule.minutes: 2, but .*rates.yaml has no rate of vit-tiny_digits_diet_"):
        settings(tmp_path, "schedule.minutes=2")
    with pytest.raises(UserError, match=r"schedule.minutes: given beside schedule.steps=5"):
        settings(tmp_path, "schedule.minutes=2", "schedule.steps=5")
    assert settings(tmp_path, "schedule.minutes=2", "mode=fetch").schedule.minutes == 2


def test_rates_are_added_and_a_broken_file_is_named(tmp_path: Path) -> None:
    write_rate(tmp_path, "a", RATE)
    write_rate(tmp_path, "b", RATE)
    assert read_rates(tmp_path) == {"a": RATE, "b": RATE}
    for text in ("[1, 2]", "a: {seconds: 1}", "a: {seconds: 0, steps_per_epoch: 1, device: cpu}", "{"):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(UserError, match=rf"{FILE}: no (YAML|file of rates).*remove it, and measure again"):
            read_rates(tmp_path)
