"""EigenCAM: by hand, on a planted object, and of real networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.config.build import build
from dinodiet.errors import NotApplicable
from dinodiet.features.eigen_maps import first_component, last_maps
from dinodiet.types import Backbone, DataSpec
from tests.backbones.toy import Toy
from tests.contracts.choices import small_model

SPEC = DataSpec("photos", num_images=10, num_labels=2)


def backbone(name: str) -> Any:
    torch.manual_seed(0)
    return build(small_model(name), "model", Backbone)(spec=SPEC).eval()


@pytest.mark.parametrize(
    ("features", "along", "share"),
    [
        ([[3, 4], [0, 0]], [5, 0], 1.0),  # one place alone: its length, along itself
        ([[2, 0], [0, 1]], [2, 0], 0.8),  # 4 of 4 + 1
        ([[-2, 0], [0, 1]], [2, 0], 0.8),  # the largest value is positive
        ([[1, 0], [-1, 0]], [1, -1], 1.0),  # of equally large ones the first
        ([[3, 3], [1, 1]], [3 * 2**0.5, 2**0.5], 1.0),  # not centred
        ([[0, 0], [0, 0]], [0, 0], 0.0),
    ],
)
def test_the_component_is_the_one_computed_by_hand(features: Any, along: Any, share: float) -> None:
    maps = torch.tensor(features).float().T.reshape(1, 2, 1, 2)
    found, explained = first_component(maps)
    assert found.shape == (1, 1, 2)
    assert found.flatten().tolist() == pytest.approx(along, abs=1e-12)
    assert explained.item() == pytest.approx(share)


class Bright(Toy):
    """One channel fires where a patch of 4 x 4 pixels is bright; the other two say little."""

    def __init__(self) -> None:
        super().__init__(3, 32)
        self.block = nn.AvgPool2d(4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.block(images * torch.tensor([5.0, 0.1, 0.1]).view(3, 1, 1))
        pooled: Tensor = maps.mean((2, 3))
        return pooled

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[self.block]]


def test_a_planted_object_is_found() -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2
    corners = [(0, 0), (8, 20), (24, 4), (28, 28)]
    for image, (top, left) in zip(images, corners, strict=True):
        image[0, top : top + 4, left : left + 4] = 1
    along, _ = first_component(last_maps(Bright(), images))
    assert along.flatten(1).argmax(1).tolist() == [top // 4 * 8 + left // 4 for top, left in corners]
    assert all(float(one.flatten().sort().values[-2]) < 0.3 * float(one.max()) for one in along)


def test_maps_of_a_small_resnet_are_those_that_it_pools() -> None:
    network = backbone("resnet_tiny")
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    maps = last_maps(network, images)
    assert maps.shape == (2, 64, 8, 8)
    with torch.no_grad():
        assert torch.allclose(maps.mean((2, 3)), network(images), atol=1e-6)
    along, share = first_component(maps)
    left, sizes, _ = np.linalg.svd(maps[1].double().flatten(1).T.numpy(), full_matrices=False)
    assert np.allclose(along[1].flatten().abs().numpy(), np.abs(left[:, 0] * sizes[0]))
    assert share[1].item() == pytest.approx(sizes[0] ** 2 / (sizes**2).sum())
    assert not network.training and not any(module._forward_hooks for module in network.modules())


def test_channels_come_first_also_of_networks_that_have_them_last() -> None:
    network = backbone("swin")
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
    assert torch.allclose(F.adaptive_avg_pool2d(last_maps(network, images), 1).flatten(1), expected, atol=1e-6)


def test_networks_without_maps_are_refused_by_name() -> None:
    with pytest.raises(NotApplicable, match=r"needs maps of features.*VisionTransformer has none"):
        last_maps(backbone("vit"), torch.rand(1, 3, 32, 32))
    with pytest.raises(NotApplicable, match="more than one place; the last ones of Bright have one"):
        last_maps(Bright(), torch.rand(1, 3, 4, 4))
