import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dinodiet.errors import UserError
from dinodiet.schedules import Cosine, Linear, Scalar, Staged, at, duration
from dinodiet.types import Clock
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "schedules.npz")
SETTINGS: dict[str, dict[str, Any]] = json.loads(str(REFERENCE["settings_json"]))


def total_values(schedule: Scalar, clock: Clock) -> list[float]:
    return [at(schedule, replace(clock, step=step)) for step in range(clock.total_steps)]


@pytest.mark.parametrize("name", SETTINGS)
def test_cosine_equals_the_published_schedule(name: str) -> None:
    settings = SETTINGS[name]
    cosine = Cosine(
        value=settings["base_value"],
        final=settings["final_value"],
        start=settings.get("start_warmup_value", 0.0),
        warmup_epochs=settings.get("warmup_epochs", 0),
    )
    steps = settings["niter_per_ep"]
    values = total_values(cosine, Clock(0, settings["epochs"] * steps, steps))
    np.testing.assert_allclose(values, REFERENCE[name], rtol=1e-12, atol=1e-15)


def test_linear_by_epoch_equals_the_published_teacher_temperature() -> None:
    reference = np.load(REFERENCES / "dino_loss.npz")
    linear = Linear(start=0.04, final=0.07, epochs=4, per="epoch")
    values = total_values(linear, Clock(0, 30, 3))
    np.testing.assert_allclose(values, np.repeat(reference["teacher_temps"], 3), rtol=1e-12)


def test_warmup_in_steps_is_capped_at_a_part_of_the_training() -> None:
    cosine = Cosine(value=1.0, warmup_steps=12_500, max_warmup_fraction=0.1)
    values = total_values(cosine, Clock(0, 50, 5))
    assert values[:6] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert max(values[6:]) < 1.0


def test_cosine_per_epoch_is_constant_within_one() -> None:
    values = total_values(Cosine(value=1.0, warmup_epochs=2, per="epoch"), Clock(0, 20, 4))
    assert values[0:4] == [0.0] * 4
    assert values[4:12] == [1.0] * 8
    assert len(set(values)) == 4


@pytest.mark.parametrize(("total", "expected"), [(10, [0.0, 0.5, 1.0, 1.0]), (4, [0.0, 1.0, 1.0, 1.0])])
def test_linear_by_step_has_both_ends_and_a_cap(total: int, expected: list[float]) -> None:
    linear = Linear(start=0.0, final=1.0, steps=3, max_fraction=0.5)
    assert total_values(linear, Clock(0, total, 1))[:4] == expected


def test_staged_switches_at_equal_parts_or_at_fractions() -> None:
    clock = Clock(0, 10, 1)
    assert total_values(Staged([0.6, 0.4]), clock) == [0.6] * 5 + [0.4] * 5
    assert total_values(Staged([1.0, 2.0, 3.0], until=[0.1, 0.4]), clock) == [1.0] + [2.0] * 3 + [3.0] * 6


def test_at_reads_numbers_and_schedules() -> None:
    assert at(0.3, Clock(5, 10, 1)) == 0.3
    assert at(Linear(0.0, 1.0, steps=11), Clock(5, 20, 1)) == 0.5


def test_two_units_of_one_duration_are_refused() -> None:
    with pytest.raises(UserError, match=r"warmup_steps and warmup_epochs are all set"):
        Cosine(value=1.0, warmup_steps=1, warmup_epochs=1)(Clock(0, 10, 1))
    assert duration(Clock(0, 10, 5), steps=None, epochs=1.5, fraction=None, name="warmup") == 8
