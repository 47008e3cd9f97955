"""Each of the twelve tiny models of transformers trains, goes on after a kill to the same numbers, and is planned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from safetensors.torch import load_file

from dinodiet.store.rundir import RunDir
from dinodiet.sweep.task import task_of
from tests.backbones.hf.tiny import FOLDERS, NAMES
from tests.kinds import rest_nightly
from tests.running import composed, killed_after, run, scores

from .test_activations import peaks

pytestmark = pytest.mark.slow

KINDS = ("dinov2_with_registers", "siglip_vision", "swin", "resnet")  # tokens of each kind, and a map
QUICK = {"siglip_vision": "dino", "resnet": "diet"}
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


@pytest.mark.parametrize(
    ("name", "method"),
    rest_nightly([*((name, "diet") for name in NAMES), *((name, "dino") for name in KINDS)], [*QUICK.items()]),
)
def test_a_killed_run_goes_on_to_the_same_numbers(
    tmp_path: Path, name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    often = "checkpoint_minutes=0"
    undisturbed = run(*configuration(tmp_path / "whole", name, method, often))
    assert undisturbed["initial"] != undisturbed["final"]
    cfg, choices = configuration(tmp_path / "killed", name, method, often)
    with killed_after(HALF, monkeypatch):
        run(cfg, choices)
    again = run(cfg, choices)
    assert scores(again) == scores(undisturbed)
    (one,), (other,) = ((tmp_path / which / "default").glob("hf-*") for which in ("whole", "killed"))
    weights = [load_file(RunDir(folder).encoder) for folder in (one, other)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of torch, where positions are interpolated
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", rest_nightly(NAMES, QUICK))
def test_the_planned_peak_is_that_of_a_real_step(tmp_path: Path, name: str, method: str) -> None:
    cfg, choices = configuration(tmp_path, name, method, "eval.batch_size=8")
    planned, taken = peaks(task_of(cfg, choices, ()).settings())
    assert planned == pytest.approx(taken, rel=0.1)
