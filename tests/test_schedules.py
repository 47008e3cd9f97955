import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dinodiet.config.build import build
from dinodiet.config.schedule_text import schedule_node
from dinodiet.errors import UserError
from dinodiet.schedules import Concatenation, Cosine, HalfCosine, Linear, MultiStep, Part, Scalar, Staged, at, duration
from dinodiet.types import Clock
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "schedules.npz")
SETTINGS: dict[str, dict[str, Any]] = json.loads(str(REFERENCE["settings_json"]))

# What the DINO experiment bed (github.com/safelix/dinopl) computes from its expressions, and these as they are written
# here. Its nan and none are no schedules: what can be off is null.
BED = np.load(REFERENCES / "dinopl" / "schedules.npz")
BED_SETTINGS: dict[str, Any] = json.loads(str(BED["settings_json"]))
WRITTEN = {
    "0.874": "constant(0.874)",
    "ConstSched(0.874)": "constant(0.874, 2ep)",
    "LinSched(0.874,0.726)": "linear(0.874, 0.726)",
    "CosSched(0.874,0.726)": "cosine(0.874, 0.726)",
    "ExpSched(0.874,0.726)": "exp(0.874, 0.726)",
    "LinSched(0,1)": "linear(0, 1)",
    "CosSched(1,0)": "cosine(1, 0)",
    "ExpSched(1,16)": "exp(1, 16)",
    "CatSched(LinSched(0,4),CosSched(4,0),1)": "cat(linear(0, 4, 1ep), cosine(4, 0))",
    "CatSched(LinSched(0,4),CosSched(4,0),0.5)": "cat(linear(0, 4, 50%), cosine(4, 0))",
    "MultiStep(1,0.1,1,0.5)": "multistep(1, 0.1, 1ep, 50%)",
    "CatSched(0.874,0.726,1)": "cat(constant(0.874, 1ep), 0.726)",
    "CatSched(LinSched(0,0.874),CosSched(0.874,0.726),0.13)": "cat(linear(0, 0.874, 13%), cosine(0.874, 0.726))",
    "CatSched(CatSched(LinSched(0,0.874),0.874,1),ExpSched(0.874,0.726),2)": (
        "cat(cat(linear(0, 0.874, 1ep), 0.874, 2ep), exp(0.874, 0.726))"
    ),
    "CatSched(ExpSched(0.874,0.726),CatSched(0.726,LinSched(0.726,1.686),0.5),0.75)": (
        "cat(exp(0.874, 0.726, 75%), cat(constant(0.726, 50%), linear(0.726, 1.686)))"
    ),
    "LinWarmup(0.874,0.726,1)": "linear(0.874, 0.726, 1ep)",
    "LinWarmup(0.874,0.726,0.13)": "linear(0.874, 0.726, 13%)",
    "ExpWarmup(0.874,0.726,1)": "exp(0.874, 0.726, 1ep)",
    "ExpWarmup(0.874,0.726,0.75)": "exp(0.874, 0.726, 75%)",
    "CosWarmup(0.874,0.726,2)": "cosine(0.874, 0.726, 2ep)",
    "CosWarmup(0.874,0.726,0.13)": "cosine(0.874, 0.726, 13%)",
    "LinWarmup(0.874,0.726,0)": "linear(0.874, 0.726, 0ep)",
    "LinWarmup(0.874,0.726,3)": "linear(0.874, 0.726, 3ep)",
    "MultiStep(0.874,0.11,1,2)": "multistep(0.874, 0.11, 1ep, 2ep)",
    "MultiStep(0.874,0.11,0.13,0.75)": "multistep(0.874, 0.11, 13%, 75%)",
    "MultiStep(0.874,0.11,1,0.75)": "multistep(0.874, 0.11, 1ep, 75%)",
    "CatSched(LinSched(0,5e-4),CosSched(5e-4,1e-6),1)": "cat(linear(0, 5e-4, 1ep), cosine(5e-4, 1e-6))",
    "CosSched(0.04,0.4)": "cosine(0.04, 0.4)",
    "CosSched(0.996,1)": "cosine(0.996, 1)",
    "LinWarmup(0.04,0.04,0)": "linear(0.04, 0.04, 0ep)",
}


def written(text: str) -> Scalar:
    node = schedule_node(text, "lr")
    made: Scalar = build(node, "lr")() if isinstance(node, dict) else node
    return made


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


@pytest.mark.parametrize("expression", WRITTEN)
def test_a_written_schedule_has_the_values_of_the_experiment_bed(expression: str) -> None:
    schedule = written(WRITTEN[expression])
    number = BED_SETTINGS["expressions"].index(expression)
    for place, run in enumerate(BED_SETTINGS["runs"]):
        values = total_values(schedule, Clock(0, run["epochs"] * run["steps_per_epoch"], run["steps_per_epoch"]))
        np.testing.assert_allclose(values, BED[f"run{place}.expression{number}"], rtol=1e-12, atol=1e-15)


def test_every_expression_of_the_experiment_bed_is_written() -> None:
    assert {*BED_SETTINGS["expressions"]} - WRITTEN.keys() == {"nan", "none"}


def test_a_part_without_a_duration_takes_what_the_others_leave() -> None:
    schedule = Concatenation([Part(Linear(0, 1, fraction=1), steps=3), 1.0, Part(HalfCosine(1, 0), fraction=0.3)])
    assert total_values(schedule, Clock(0, 10, 2)) == pytest.approx([0, 0.5, 1, 1, 1, 1, 1, 1, 0.5, 0])
    assert total_values(schedule, Clock(0, 2, 2)) == [0, 0.5]  # cut off at its own pace


def test_the_last_value_is_held_where_parts_end_before_the_training() -> None:
    schedule = Concatenation(
        [Part(0.5, steps=0), Part(Linear(0, 1, fraction=1), epochs=1), Part(HalfCosine(1, 3), steps=2)]
    )
    assert total_values(schedule, Clock(0, 8, 3)) == pytest.approx([0, 0.5, 1, 1, 3, 3, 3, 3])
    own = Part(lambda clock: clock.step / clock.total_steps, steps=2)  # one's own may know nothing beyond its end
    assert total_values(Concatenation([own, Part(9, steps=0)]), Clock(0, 4, 1)) == [0, 0.5, 0.5, 0.5]
    assert total_values(MultiStep(8, 0.5, steps=[1, 3], fractions=[0.5]), Clock(0, 5, 1)) == [8, 4, 2, 1, 1]


def test_what_has_no_end_or_no_duration_is_refused() -> None:
    with pytest.raises(UserError, match=r"^parts: 2 of 3 have no duration"):
        Concatenation([0.1, Part(0.2, epochs=1), Linear(0, 1)])
    with pytest.raises(UserError, match=r"^parts: 0 of 0"):
        Concatenation([])
    with pytest.raises(UserError, match=r"^steps: null; give one of steps, epochs, fraction"):
        Part(0.1)
    with pytest.raises(UserError, match=r"^steps and fraction are all set"):
        HalfCosine(0, 1, steps=1, fraction=0.5)
