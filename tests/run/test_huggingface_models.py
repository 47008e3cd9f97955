"""Each of the twelve tiny models of transformers trains, goes on after a kill to the same numbers, and is planned."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file
from torch import Tensor

from dinodiet.run.activations import Live
from dinodiet.run.monitor import Monitor
from dinodiet.run.parts import build_parts
from dinodiet.store.rundir import RunDir
from dinodiet.sweep.planning.estimate import Estimator
from dinodiet.sweep.task import task_of
from dinodiet.types import Clock
from tests.backbones.hf.tiny import FOLDERS, NAMES
from tests.running import composed, run, scores

from .test_activations import FixedViews

pytestmark = pytest.mark.slow

KINDS = ("dinov2_with_registers", "siglip_vision", "swin", "resnet")  # tokens of each kind, and a map
HEAD = ("method.head.hidden_dims=[32,32]", "method.head.out_dim=64")
METHODS = {"diet": (), "dino": HEAD}
HALF = 2  # of 4 steps


def configuration(folder: Path, name: str, method: str, *overrides: str) -> tuple[DictConfig, dict[str, str]]:
    side = json.loads((FOLDERS / name / "config.json").read_text()).get("image_size") or 64
    choices = {"model": "hf", "dataset": "digits", "method": method}
    base = (
        *(f"{group}={choice}" for group, choice in choices.items()),
        *(f"model.name={FOLDERS / name}", f"dataset.image_size={side}", "dataset.limit=32", "tuned=none"),
        *("schedule.epochs=2", "schedule.batch_size=16", "eval=knn", "log_every=1", "device=cpu"),
        *("method.trainable=last_2_blocks", "method.head.warmup_fraction=0", *METHODS[method]),
        *([f"method.views.crops=2x{side}+4x{side // 2}"] if method == "dino" and side == 64 else []),
    )
    return composed(folder, *overrides, base=base), choices


@pytest.mark.parametrize(("name", "method"), [*((name, "diet") for name in NAMES), *((name, "dino") for name in KINDS)])
def test_a_killed_run_goes_on_to_the_same_numbers(
    tmp_path: Path, name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = "checkpoint_minutes=0"
    undisturbed = run(*configuration(tmp_path / "whole", name, method, often))
    assert undisturbed["initial"] != undisturbed["final"]
    on_step = Monitor.on_step

    def killed(self: Monitor, clock: Clock, logs: dict[str, Tensor]) -> Any:
        if clock.step > HALF:
            raise InterruptedError
        return on_step(self, clock, logs)

    cfg, choices = configuration(tmp_path / "killed", name, method, often)
    with monkeypatch.context() as patch, pytest.raises(InterruptedError):
        patch.setattr(Monitor, "on_step", killed)
        run(cfg, choices)
    again = run(cfg, choices)
    assert scores(again) == scores(undisturbed)
    (one,), (other,) = ((tmp_path / which / "default").glob("hf-*") for which in ("whole", "killed"))
    weights = [load_file(RunDir(folder).encoder) for folder in (one, other)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of torch, where positions are interpolated
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_the_planned_peak_is_that_of_a_real_step(tmp_path: Path, name: str, method: str) -> None:
    cfg, choices = configuration(tmp_path, name, method, "eval.batch_size=8")
    settings = task_of(cfg, choices, ()).settings()
    found = Estimator()(settings)
    parts = build_parts(settings)
    learned, clock = parts.method.train(), parts.state.clock.at(parts.state.clock.total_steps - 1)
    batch = next(parts.loader.batches(0))
    own: Any = learned.views
    views = own(batch.images, clock.generator("views"))
    learned.views = FixedViews(views, own.num_global)  # type: ignore[assignment]
    sizes = sum(view.numel() * view.element_size() for view in views)
    del views
    gc.collect()
    with Live() as live:
        torch.autograd.backward(learned(batch, clock)["loss"])
    gradients = sum(p.numel() * p.element_size() for p in learned.parameters() if p.requires_grad)
    assert found.peak is not None and found.memory is not None
    assert found.peak - (found.memory - gradients) == pytest.approx(live.peak + sizes, rel=0.1)
