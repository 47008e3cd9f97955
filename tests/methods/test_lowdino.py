"""The LowDINO preset: what the published settings say is what a run gets."""

from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from dinodiet.config.build import build
from dinodiet.config.schema import RunConfig, check
from dinodiet.schedules import at
from dinodiet.types import Clock, DataSpec
from tests.places import CONF

SPEC = DataSpec("many", num_images=500_000, num_labels=2, native_size=64)


def composed(*overrides: str) -> DictConfig:
    ConfigStore.instance().store("schema", RunConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[*overrides])
    check(cfg)
    return cfg


def test_the_preset_holds_the_published_settings() -> None:
    cfg = composed("model=resnet5m", "method=lowdino")
    backbone: Any = build(cfg.model, "model")(spec=SPEC)
    method: Any = build(cfg.method, "method")(backbone=backbone, spec=SPEC)
    clock = Clock(0, 1000, 100)
    assert (method.head.out_dim, backbone.embed_dim) == (1024, 512)  # whatever the number of images
    assert [at(method.teacher.momentum, clock.at(step)) for step in (0, 1000)] == [0.9995, 0.9995]
    assert at(method.loss.teacher_temp, clock.at(1000)) == 0.04
    trained = [name for name, p in method.head.last_layer.named_parameters() if p.requires_grad]
    assert len(trained) == 1  # the prototypes' directions: their norms are fixed
    images = torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8)
    crops = method.views(images, clock.generator("views"))
    assert (len(crops), method.views.num_global) == (4, 2)
    assert (cfg.schedule.clip_grad, cfg.schedule.clip_mode) == (2.0, "per_tensor")
    assert (cfg.schedule.lr, cfg.schedule.lr_reference_batch, cfg.schedule.weight_decay) == (5e-4, 256, 0.4)


def test_the_published_preset_differs_where_it_says_so() -> None:
    cfg = composed("model=resnet5m", "method=lowdino_published")
    backbone: Any = build(cfg.model, "model")(spec=SPEC)
    method: Any = build(cfg.method, "method")(backbone=backbone, spec=SPEC)
    assert any(isinstance(layer, torch.nn.SELU) for layer in method.head.mlp)
    assert not any(isinstance(layer, torch.nn.GELU) for layer in method.head.mlp)
    widths = [layer.out_features for layer in method.head.mlp if isinstance(layer, torch.nn.Linear)]
    assert widths == [512, 512, 256]
    weights = torch.cat([layer.weight.flatten() for layer in method.head.mlp if isinstance(layer, torch.nn.Linear)])
    assert abs(weights.std().item() - 0.02) < 2e-4
    assert method.head.last_layer.weight_g.requires_grad  # free norms
    assert method.head.frozen_steps(Clock(0, 1000, 100)) == 0
    crops = method.views(torch.randint(256, (2, 3, 64, 64), dtype=torch.uint8), Clock(0, 1, 1).generator("views"))
    assert [crop.shape[-1] for crop in crops] == [64] * 4 and method.views.num_global == 2
    (_, globals_), (_, locals_) = method.views.groups
    assert [recipe.blur for recipe in (*globals_, *locals_)] == [1.0, 0.1, 0.5, 0.5]
    assert {recipe.blur_kernel for recipe in (*globals_, *locals_)} == {5}
    assert {recipe.crop_scale for recipe in locals_} == {(0.05, 0.4)}
    assert (cfg.schedule.clip_grad, cfg.schedule.lr, cfg.schedule.weight_decay) == (2.0, 5e-4, 0.4)
