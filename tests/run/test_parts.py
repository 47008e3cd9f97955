from pathlib import Path

import pytest

from dinodiet.config.settings import settings_of
from dinodiet.errors import UserError
from dinodiet.run.parts import build_parts, check_compared
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


@pytest.mark.parametrize("words", [("batch_size=8", "accumulate=8"), ("batch_size=1",)], ids=["parts", "batch"])
def test_an_image_alone_is_refused_before_anything_runs_where_images_are_compared(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    small = tuple(f"schedule.{word}" for word in words)
    with pytest.raises(UserError, match=r"^schedule\.batch_size: .* a part of 1 .*; choose parts of 2 images or more"):
        build_parts(settings_of(composed(tmp_path, "method=simclr", *small), CHOICES))
    assert build_parts(settings_of(composed(tmp_path, "method=mae", *small), CHOICES))


def test_what_is_left_over_is_a_part_too(tmp_path: Path) -> None:
    """10 images in 8 parts: five of 2; in 4: three of 3 and one alone."""
    method = build_parts(settings_of(composed(tmp_path, "method=lejepa"), CHOICES)).method
    check_compared(method, 10, 8)
    with pytest.raises(UserError, match=r"steps of 10 images have a part of 1 \(schedule\.accumulate=4\)"):
        check_compared(method, 10, 4)
