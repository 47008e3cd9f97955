"""The frozen teacher: its own input, its mode, its state, and its features computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from dinodiet.backbones import timm_backbone
from dinodiet.data.images import TensorImages
from dinodiet.data.views.views import SingleView
from dinodiet.methods.parts.frozen_teacher import FrozenTeacher, seen_by
from dinodiet.types import Backbone, Clock, DataSpec, InputSpec, Runtime, Statistics

SPEC = DataSpec("test", num_images=6, num_labels=2, image_size=16, native_size=16)
IMAGES = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
HALF = Statistics((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def small(spec: DataSpec, **settings: Any) -> Backbone:
    return timm_backbone(
        spec, size="a", names={"a": "resnet5m"}, feature="pooled", weights="none", image_size=32, **settings
    )


def teacher(spec: DataSpec = SPEC, **settings: Any) -> FrozenTeacher:
    torch.manual_seed(3)
    return FrozenTeacher(spec, model=small, **settings)


def views(**settings: Any) -> SingleView:
    return SingleView(InputSpec(16, (0, 0, 0), (1, 1, 1)), **settings)


def test_it_sees_views_at_its_own_side_and_by_its_own_statistics() -> None:
    built = teacher(replace(SPEC, statistics=HALF))
    assert (built.input.size, built.input.mean) == (32, teacher().input.mean)
    assert teacher(replace(SPEC, statistics=HALF), normalization="dataset").input.mean == HALF.mean
    half = IMAGES.float() / 255
    shown = seen_by(built.input, half)
    assert shown.shape == (6, 3, 32, 32) and shown.min() >= 0 and shown.max() <= 1
    assert torch.equal(built(half), built(shown))
    assert torch.equal(seen_by(replace(built.input, size=16), half), half)


def test_it_stays_in_evaluation_mode_without_gradients_or_state() -> None:
    built = teacher()
    built.train()
    assert not any(part.training for part in built.modules())
    assert not any(parameter.requires_grad for parameter in built.parameters())
    assert not built(IMAGES.float() / 255).requires_grad
    whole = torch.nn.ModuleDict({"teacher": built, "head": torch.nn.Linear(2, 2)})
    before = {name: tensor.clone() for name, tensor in (*built.named_parameters(), *built.named_buffers())}
    assert list(whole.state_dict()) == ["head.weight", "head.bias"]
    whole.load_state_dict(whole.state_dict())
    after = dict((*built.named_parameters(), *built.named_buffers()))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_building_it_draws_no_random_number_of_others() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    FrozenTeacher(SPEC, model=small)
    assert torch.equal(torch.rand(3), expected)


def test_features_of_fixed_views_are_computed_once_and_are_the_same(tmp_path: Path) -> None:
    built, fixed = teacher(), views(strength=0)
    cache = built.cache(fixed)
    assert not cache.ready
    images = TensorImages(IMAGES, torch.zeros(6, dtype=torch.int64))
    for _ in range(2):
        cache = built.cache(fixed)
        cache.prepare(images, Clock(0, 10, 5), Runtime(cache=tmp_path))
    assert cache.ready and len(list((tmp_path / "trunks").glob("*.bin"))) == 1
    rows = torch.tensor([4, 0, 5])
    (found,) = cache.draw(rows, Clock(7, 10, 5))
    (view,) = fixed(IMAGES[rows], torch.Generator())
    torch.testing.assert_close(found, built(view), atol=1e-6, rtol=1e-5)  # the batch is another: rounding


def test_which_views_are_fixed() -> None:
    assert views(strength=0).fixed
    for random in ({"strength": 1}, {"strength": 0, "flip": 0.5}, {"strength": 0, "crop_scale": [0.5, 1.0]}):
        assert not views(**random).fixed
