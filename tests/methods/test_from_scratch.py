"""The presets from scratch: what the published settings say is what a run gets."""

from typing import Any

import pytest
import torch

from dinodiet.config.build import build
from dinodiet.types import Clock, DataSpec
from tests.methods.test_lowdino import composed

SPEC = DataSpec("some", num_images=40_960, num_labels=3, native_size=32)


def made(name: str) -> tuple[Any, Any]:
    cfg = composed("model=resnet", "model.size=18", "model.weights=none", f"method={name}")
    with torch.device("meta"):
        backbone: Any = build(cfg.model, "model")(spec=SPEC)
        return cfg, build(cfg.method, "method")(backbone=backbone, spec=SPEC)


@pytest.mark.parametrize(("name", "batch", "peak", "decay"), [("simclr", 512, 1.0, 1e-4), ("byol", 256, 0.2, 1.5e-6)])
def test_lars_has_the_published_rates_and_leaves_biases_and_norms_alone(
    name: str, batch: int, peak: float, decay: float
) -> None:
    cfg, method = made(f"{name}_scratch")
    schedule = cfg.schedule
    assert (schedule.epochs, schedule.batch_size, schedule.lr_reference_batch) == (1000, batch, batch)
    assert schedule.weight_decay == decay
    lr: Any = build(schedule.lr, "schedule.lr")()
    assert [lr(Clock(step, 100_000, 100)) for step in (0, 999, 100_000)] == pytest.approx([0, peak, 0])
    optimizer: Any = build(schedule.optimizer, "schedule.optimizer")(params=[torch.nn.Parameter(torch.zeros(2, 2))])
    assert type(optimizer).__name__ == "Lars"
    assert not optimizer.defaults["always_adapt"]  # without decay, a parameter's rate is not adapted
    assert all(parameter.requires_grad for parameter in method.backbone.parameters())
    assert method.warmup_fraction == 0
    groups = {group.name: group.weight_decay_scale for group in method.param_groups()}
    assert groups == {"decay": 1.0, "no_decay": 0.0}


def test_views_of_simclr_are_those_for_small_images() -> None:
    _, method = made("simclr_scratch")
    recipes = [recipe for _, group in method.views.groups for recipe in group]
    assert [(recipe.blur, recipe.crop_scale) for recipe in recipes] == [(0.0, (0.08, 1.0))] * 2
    assert method.loss.temperature == 0.5


def test_views_of_byol_differ() -> None:
    _, method = made("byol_scratch")
    recipes = [recipe for _, group in method.views.groups for recipe in group]
    assert [(recipe.blur, recipe.solarize) for recipe in recipes] == [(1.0, 0.0), (0.1, 0.2)]


def test_lejepa_is_drawn_to_its_global_views() -> None:
    cfg, method = made("lejepa_scratch")
    assert [len(group) for _, group in method.views.groups] == [2, 6]
    assert method.loss.centre == "global"
    assert (cfg.schedule.lr.value, cfg.schedule.lr.final, cfg.schedule.weight_decay) == (5e-4, 5e-7, 0.05)
