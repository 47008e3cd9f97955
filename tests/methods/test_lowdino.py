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
