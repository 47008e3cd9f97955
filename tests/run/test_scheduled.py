"""What a schedule makes of a number lies in the number's range, at every step."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dinodiet.config.settings import Settings, settings_of
from dinodiet.errors import UserError
from dinodiet.run.parts import build_parts
from dinodiet.run.scheduled import MOST_STEPS, _steps, check_scheduled
from dinodiet.sweep.planning.estimate import Estimator
from dinodiet.types import Clock
from tests.running import CHOICES, composed

CLOCK = Clock(0, 30, 10)
COSINE = {"_target_": "dinodiet.schedules.Cosine"}


@dataclasses.dataclass
class Falling:
    """A schedule of one's own."""

    start: float
    by: float = 0.1

    def __call__(self, clock: Clock) -> float:
        if self.by == 0:
            raise ZeroDivisionError("by nothing")
        return self.start - self.by * clock.step


def settings(key: str, node: dict[str, Any], folder: Path) -> Settings:
    cfg = composed(folder, "method=dino")
    OmegaConf.set_struct(cfg, False)
    OmegaConf.update(cfg, key, node, merge=False)
    return settings_of(cfg, {**CHOICES, "method": "dino"})


@pytest.mark.parametrize(
    ("key", "node", "told"),
    [
        ("method.loss.student_temp", {**COSINE, "value": 0.1, "final": 0.1, "warmup_steps": 3}, "0 at step 0 of 30"),
        ("method.loss.teacher_temp", {**COSINE, "value": 0.1, "warmup_steps": 0}, r"0\.000274 at step 29 of 30"),
        ("method.teacher.momentum", {"_target_": f"{__name__}.Falling", "start": 1.0}, r"-0\.1 at step 11 of 30"),
        ("schedule.lr", {"_target_": f"{__name__}.Falling", "start": 2.0}, r"-0\.1 at step 21 of 30"),
        ("schedule.weight_decay", {"_target_": f"{__name__}.Falling", "start": 1, "by": 0}, "ZeroDivisionError"),
    ],
)
def test_a_value_outside_its_range_is_told_with_its_step(
    key: str, node: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^{key}: {told}"):
        check_scheduled(settings(key, node, tmp_path), CLOCK)


@pytest.mark.parametrize(
    ("key", "node"),
    [
        ("method.loss.student_temp", {**COSINE, "value": 0.1, "final": 0.1}),  # no warm-up: its start is never taken
        ("method.loss.teacher_temp", {**COSINE, "value": 0.1, "start": 0.01, "final": 0.1, "warmup_steps": 3}),
        ("method.teacher.momentum", {**COSINE, "value": 0.99, "final": 1.0}),
        ("schedule.lr", {**COSINE, "value": 0.1, "warmup_fraction": 0.5}),
    ],
)
def test_values_in_their_range_are_taken(key: str, node: dict[str, Any], tmp_path: Path) -> None:
    check_scheduled(settings(key, node, tmp_path), CLOCK)


def test_runs_and_plans_look(tmp_path: Path) -> None:
    cold = settings("method.loss.student_temp", {**COSINE, "value": 0.1, "warmup_epochs": 1}, tmp_path)
    with pytest.raises(UserError, match=r"^method\.loss\.student_temp: 0 at step 0"):
        build_parts(cold)
    with pytest.raises(UserError, match=r"^method\.loss\.student_temp: 0 at step 0"):
        Estimator()(cold)


@pytest.mark.parametrize("total", [0, 1, 7, MOST_STEPS // 2 + 1, MOST_STEPS, 10**6])
def test_the_steps_that_are_looked_at_rise_from_the_first_to_the_last(total: int) -> None:
    steps = list(_steps(total))
    assert steps == sorted(set(steps))
    assert set(steps[:1] + steps[-1:]) == ({0, total - 1} if total else set())
    assert len(steps) <= 2 * MOST_STEPS
    assert total > MOST_STEPS or len(steps) == total
