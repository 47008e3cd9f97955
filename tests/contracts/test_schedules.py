"""What every file of conf/schedule keeps to: rates that a training can follow, and an optimiser over its parameters."""

from __future__ import annotations

import math
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from dinodiet.config.schema import LATER, ScheduleConfig
from dinodiet.methods.base import MethodBase
from dinodiet.run.optimisation import build_optimisation
from dinodiet.run.parts import build_parts
from dinodiet.schedules import at
from dinodiet.types import Clock
from tests.contracts.choices import names, node, settings


@pytest.fixture(scope="module")
def method(tmp_path_factory: pytest.TempPathFactory) -> MethodBase:
    return build_parts(settings(tmp_path_factory.mktemp("run"))).method


@pytest.mark.parametrize("name", names("schedule"))
def test_a_schedule_gives_rates_for_every_step(name: str, method: MethodBase, tmp_path: Path) -> None:
    # A method's own schedule is part of its file; the keys of the tiny run would change this one.
    chosen = node("schedule", name)
    assert {*chosen, *LATER} == {field.name for field in fields(ScheduleConfig)}
    plain = settings(tmp_path, f"schedule={name}", f"schedule.epochs={chosen['epochs']}")
    optimisation, optimizer = build_optimisation(plain, method, num_images=640)
    assert isinstance(optimizer, torch.optim.Optimizer)
    total = round(plain.schedule.epochs * 10)
    rates = [at(optimisation.lr, Clock(step, total, 10)) for step in range(total)]
    decays = [at(optimisation.weight_decay, Clock(step, total, 10)) for step in range(total)]
    assert all(math.isfinite(value) and value >= 0 for value in (*rates, *decays))
    assert total or name == "frozen"
    assert not total or (max(rates) > 0 and rates[-1] <= max(rates))
    assert plain.schedule.batch_size % plain.schedule.accumulate == 0
