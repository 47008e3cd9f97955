from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dinodiet.data.images import TensorImages
from dinodiet.data.views import SingleView
from dinodiet.errors import NotApplicable
from dinodiet.evals.lidar import LiDAR
from dinodiet.evals.measures.rows import chosen
from dinodiet.evals.measures.spectrum import lidar
from dinodiet.evals.scorer import Scorer
from dinodiet.features.views import TOGETHER, embedded_views
from dinodiet.types import Data, DataSpec, InputSpec, Runtime
from tests.backbones.toy import Toy

INPUT = InputSpec(size=8, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
PIXELS = torch.randint(256, (70, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Encoder(Toy):
    """Projects pixels; in training mode it would draw random numbers."""

    def __init__(self) -> None:
        super().__init__(5, INPUT.size)
        self.weight = nn.Parameter(torch.randn(5, 192, generator=torch.Generator().manual_seed(1)))
        self.drop = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self.drop(images.flatten(1) @ self.weight.T)
        return embeddings


def found(made: LiDAR, runtime: Runtime | None = None, pixels: Tensor = PIXELS) -> dict[str, float]:
    images = TensorImages(pixels)
    none = TensorImages(pixels[:0])
    data = Data(DataSpec("images", len(images), 0), images, images, none, none)
    scored = Scorer({"lidar": made}, data, INPUT, runtime or Runtime(), validation=True)(Encoder())["lidar"]
    assert scored.test == scored.val
    return {name: score.value for name, score in scored.test.items()}


def test_views_of_an_image_lie_together() -> None:
    made = LiDAR(images=40, views=3, strength=1, seed=7)
    positions, generator = chosen(70, 40, 7), torch.Generator().manual_seed(7)
    views, encoder = SingleView(INPUT, 1), Encoder().eval()
    expected = []
    for batch in PIXELS[positions].split(TOGETHER):
        expected.append(torch.stack([encoder(views(batch, generator)[0]) for _ in range(3)], dim=1).detach())
    assert found(made)["rank"] == pytest.approx(lidar(torch.cat(expected).double()), rel=1e-9)
    assert (found(made)["images"], found(made)["views"]) == (40, 3)


def test_batches_change_nothing_and_settings_do() -> None:
    made = LiDAR(images=40, views=3)
    usual = found(made)["rank"]
    assert found(made, Runtime(batch_size=5))["rank"] == pytest.approx(usual, rel=1e-5)
    changes: list[dict[str, Any]] = [{"images": 41}, {"views": 4}, {"strength": 3}, {"delta": 1.0}, {"seed": 1}]
    for change in [*changes, {"epsilon": 1.0}]:
        assert found(replace(made, **change))["rank"] != pytest.approx(usual, rel=1e-5), change


def test_the_encoder_is_left_in_its_mode() -> None:
    encoder = Encoder().train()
    generator = torch.Generator().manual_seed(0)
    embedded = embedded_views(encoder, TensorImages(PIXELS[:4]), SingleView(INPUT, 2), 2, Runtime(), generator)
    assert embedded.shape == (4, 2, 5) and not embedded.requires_grad
    assert encoder.training and encoder.drop.training


def test_fewer_images_than_asked_are_all_taken_and_one_is_too_few() -> None:
    assert found(LiDAR(views=2), pixels=PIXELS[:6])["images"] == 6
    with pytest.raises(NotApplicable, match="2 train images"):
        LiDAR().applies(DataSpec("one", 1, 0), 1)
