from pathlib import Path

import pytest

from dinodiet.config.settings import settings_of
from dinodiet.errors import UserError
from dinodiet.run.parts import build_parts
from dinodiet.schedules import at
from dinodiet.types import Backbone, DataSpec
from tests.running import CHOICES, composed


@pytest.mark.parametrize(("limit", "factor"), [(64, 2.0), (8, 1.0)])
def test_the_learning_rate_is_that_of_the_batch_that_is_used(limit: int, factor: float, tmp_path: Path) -> None:
    """A set of 8 images gives steps of 8, whatever batch was asked for."""
    scaled = ("schedule.batch_size=16", "schedule.lr=1e-3", "schedule.lr_reference_batch=8", "eval.knn.k=5")
    parts = build_parts(settings_of(composed(tmp_path, f"dataset.limit={limit}", *scaled), CHOICES))
    assert parts.loader.batch_size == min(16, limit)
    assert at(parts.optimisation.lr, parts.state.clock) == pytest.approx(factor * 1e-3)


class Mute:
    """No tracker: it hears of nothing."""


@pytest.mark.parametrize(("key", "contract"), [("tracker", "Tracker"), ("method", "Method")])
def test_a_part_that_breaks_its_contract_is_named(key: str, contract: str, tmp_path: Path) -> None:
    cfg = composed(tmp_path)
    cfg[key] = {"_target_": f"{__name__}.{'Mute' if key == 'tracker' else 'untaught'}"}
    with pytest.raises(UserError, match=rf"^{key}\._target_: Mute has no .*; a {contract} needs"):
        build_parts(settings_of(cfg, CHOICES))


def untaught(backbone: Backbone, spec: DataSpec) -> Mute:
    return Mute()
