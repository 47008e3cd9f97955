"""DIET with a probe as DIET_Tuning described it, and its strongest views: what the presets say is what a run gets."""

from typing import Any

import pytest
import torch

from dinodiet.config.build import build
from dinodiet.schedules import at
from dinodiet.types import Clock, DataSpec
from tests.methods.test_lowdino import composed

SPEC = DataSpec("few", num_images=12, num_labels=3, native_size=32)


def made(*words: str) -> tuple[Any, Any]:
    cfg = composed("model=vit_tiny", "model.weights=none", *words)
    torch.manual_seed(0)
    backbone: Any = build(cfg.model, "model")(spec=SPEC)
    return cfg, build(cfg.method, "method")(backbone=backbone, spec=SPEC)


@pytest.mark.parametrize(("epochs", "first", "second"), [(10, 5, 8), (30, 15, 24)])
@pytest.mark.parametrize("steps", [1, 31])  # of an epoch
def test_stages_end_at_half_and_at_four_fifths(epochs: int, first: int, second: int, steps: int) -> None:
    _, method = made("method=diet_dual_2025")
    clock = Clock(0, epochs * steps, steps)
    weights = [at(method.probe.weight, clock.at(epoch * steps)) for epoch in range(epochs)]
    assert weights == [0.4] * first + [0.6] * (second - first) + [0.8] * (epochs - second)
    assert at(method.probe.weight, clock.at(second * steps - 1)) == 0.6


def test_head_loss_and_schedule_are_the_published_ones() -> None:
    cfg, method = made("method=diet_dual_2025")
    assert [type(layer).__name__ for layer in method.head.projector] == [
        *("Linear", "BatchNorm1d", "ReLU", "Dropout", "Linear")
    ]
    assert method.head.projector[3].p == 0.1
    assert method.head.linear.weight.shape == (12, 256)
    assert method.head.logit_scale == 1 / 3
    assert method.loss.label_smoothing == 0.3
    assert method.probe.criterion.label_smoothing == 0
    assert method.probe.linear.bias is not None
    assert (cfg.schedule.epochs, cfg.schedule.weight_decay) == (30, 0.05)
    lr: Any = build(cfg.schedule.lr, "schedule.lr")()
    rates = [lr(Clock(step, 300, 10)) for step in (0, 9, 150, 300)]
    assert rates == pytest.approx([5e-4, 5e-4, (5e-4 + 1e-5) / 2, 1e-5])
    assert all(parameter.requires_grad for parameter in method.backbone.parameters())


def test_ours_is_as_it_was() -> None:
    _, method = made("method=diet_dual")
    assert type(method.head).__name__ == "ClassHead"
    assert method.probe.criterion is None
    assert [at(method.probe.weight, Clock(step, 30, 1)) for step in (9, 10, 20)] == [0.4, 0.6, 0.8]


def test_the_strongest_views_erase_and_blur_faintly() -> None:
    _, method = made("method=diet_erasing")
    recipe = method.views.recipe
    assert (recipe.blur, recipe.blur_sigma, recipe.blur_kernel) == (0.2, (1.0, 2.0), 3)
    assert (recipe.jitter, recipe.jitter_probability, recipe.gray) == ((0.4, 0.4, 0.4, 0.2), 0.3, 0.2)
    assert (recipe.solarize, recipe.crop_scale, recipe.flip) == (0, (0.08, 1.0), 0.5)
    assert method.views.recipe.erasing == 0.25
