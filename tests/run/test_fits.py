"""A run that cannot fit into the memory is refused before any of it is allocated, by the key that is to blame."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dinodiet.backbones.meta import backbone_on_meta
from dinodiet.config.settings import Settings, settings_of
from dinodiet.errors import UserError
from dinodiet.run import fits
from dinodiet.run.copies import trained_copies
from dinodiet.run.needs import method_on_meta
from dinodiet.run.parts import build_parts
from dinodiet.sweep.planning.estimate import Estimator
from tests.running import CHOICES, composed

GIB = 2**30
WIDE = "+method.teacher.model.model_args={embed_dim: 16384, num_heads: 64}"


def settings(folder: Path, *overrides: str, method: str = "diet") -> Settings:
    cfg = composed(folder, f"method={method}", *overrides)
    return settings_of(cfg, {**CHOICES, "method": method})


@pytest.mark.parametrize(
    ("method", "overrides", "told"),
    [
        (
            "dino",
            ["method.head.hidden_dims=[16384,16384]"],
            r"method\.head: weights, gradients and optimiser state take",
        ),
        (
            "distill",
            ["model@method.teacher.model=vit_tiny", "method.teacher.model.weights=hub", WIDE],
            r"method\.teacher\.model: weights, gradients and optimiser state take",
        ),
        ("diet", ["model.model_args.embed_dim=9216"], "model: weights, gradients and optimiser state take 30"),
        (
            "diet",
            ["model.patch_size=1", "dataset.image_size=256", "method.trainable=all", "eval.batch_size=1"],
            r"schedule\.batch_size: a step on 16 images of 256 px",
        ),
        ("dino", ["dataset.image_size=1024"], r"schedule\.batch_size: a step on 16 images of 1024 px"),
        ("diet", ["dataset.image_size=1024", "schedule.accumulate=16"], r"eval\.batch_size: 256 images of 1024 px"),
        (
            "diet",
            [
                "eval=finetune",
                "eval.finetune.batch_size=64",
                "dataset.image_size=1024",
                "schedule.batch_size=1",
                "eval.batch_size=1",
            ],
            r"eval\.finetune: training a copy of the whole model on 64 images of 1024 px .* takes about",
        ),
        (
            "diet",
            ["eval=finetune", "model.model_args.embed_dim=3072", "method.trainable=head_only"],
            r"eval\.finetune: training a copy of the whole model on 32 images of 32 px .* takes about",
        ),
    ],
)
def test_what_cannot_fit_is_refused_by_its_key(
    method: str, overrides: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fits, "most_memory", lambda: 2 * GIB)
    begun = time.process_time()
    with pytest.raises(UserError, match=rf"^{told}.*, this machine has 2\.0 GiB"):
        build_parts(settings(tmp_path, *overrides, method=method))
    assert time.process_time() - begun < 10


def test_the_estimate_is_that_of_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = settings(tmp_path, "dataset.image_size=256", "schedule.batch_size=64", "eval.batch_size=1")
    peak = Estimator()(tried).peak
    assert peak is not None
    monkeypatch.setattr(fits, "most_memory", lambda: int(peak / fits.MARGIN) + 1)
    spec = build_parts(tried).data.spec
    monkeypatch.setattr(fits, "most_memory", lambda: int(peak / fits.MARGIN) - 1)
    with pytest.raises(UserError, match="a step on 64 images"):
        fits.check_fits(tried, spec, torch.device("cpu"))


def test_fine_tuning_that_is_left_out_is_not_planned(tmp_path: Path) -> None:
    tried = settings(tmp_path, "eval=finetune")
    spec = build_parts(tried).data.spec
    backbone = method_on_meta(tried, backbone_on_meta(tried.model, spec), spec).encoder
    assert len(trained_copies(tried, backbone, spec, 64)) == 1
    assert trained_copies(tried, backbone, replace(spec, num_labels=0), 64) == []


def test_small_runs_are_not_measured_and_unknown_limits_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(fits, "needs", measured)
    monkeypatch.setattr(fits, "most_memory", lambda: 16 * GIB)
    build_parts(settings(tmp_path))
    monkeypatch.setattr(fits, "most_memory", lambda: None)
    monkeypatch.setattr(fits, "backbone_on_meta", measured)
    build_parts(settings(tmp_path))


def test_parts_that_need_values_are_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looks(*_: object) -> None:
        torch.empty(1, device="meta").item()

    monkeypatch.setattr(fits, "backbone_on_meta", looks)
    assert build_parts(settings(tmp_path)).backbone is not None
