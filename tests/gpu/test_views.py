"""Views, augmentations by name, embeddings and neighbours on a GPU are the CPU's; in the slow suite on the CPU.

Pixels may differ by rounding; where a threshold (solarisation) or a hue lies at a corner, few may differ by more.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.backbones.timm import timm_backbone
from dinodiet.data.images import TensorImages
from dinodiet.data.views.augmentations import Augmentations, Name
from dinodiet.data.views.views import MultiCrop, SingleView
from dinodiet.evals.knn import nearest
from dinodiet.features.embed import embed
from dinodiet.types import DataSpec, InputSpec, Runtime, World

SPEC = InputSpec(32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
PIXEL, FEW = 1e-3, 1e-3  # the largest difference, but for so small a part of the pixels
VIEWS: dict[str, Any] = {
    **{f"single{strength}": partial(SingleView, strength=strength) for strength in range(4)},
    "multi_crop": partial(MultiCrop, crops="2x32+3x16"),
    "hflip": partial(MultiCrop, crops="2x32", augs=["hflip"]),
    "padcrop_hflip": partial(MultiCrop, crops="2x32", augs=["padcrop", "hflip"]),
    "per_crop_dino": partial(MultiCrop, crops="2x32+2x16", per_crop_augs=["dino"]),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int = 16, side: int = 72) -> Tensor:
    """Return smooth pictures: noise of single pixels would magnify how a crop is rounded."""
    coarse = torch.rand(count, 3, 9, 9, generator=generator(1))
    return (255 * F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)).to(torch.uint8)


def check(found: Tensor, expected: Tensor) -> None:
    far = (found.cpu() - expected).abs() > PIXEL
    assert found.shape == expected.shape
    assert far.float().mean() <= FEW


@pytest.mark.parametrize("name", VIEWS)
def test_views_are_those_of_the_cpu(name: str, device: torch.device) -> None:
    views, images = VIEWS[name](SPEC), pictures()
    found, expected = views(images.to(device), generator()), views(images, generator())
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.device.type == device.type
        check(ours, theirs)


@pytest.mark.parametrize("name", ["hflip", "padcrop", "dino"])
def test_augmentations_by_name_are_those_of_the_cpu(name: Name, device: torch.device) -> None:
    views = MultiCrop(SPEC, "1x32", [1.0, 1.0], augs=[name])
    assert isinstance(views.augs, Augmentations)
    check(views(pictures().to(device), generator(3))[0], views(pictures(), generator(3))[0])


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("bf16", 5e-2), ("fp16", 1e-2)])
def test_embeddings_are_those_of_the_cpu(precision: Any, tolerance: float, device: torch.device) -> None:
    spec = DataSpec("test", num_images=40, num_labels=4, image_size=32)
    torch.manual_seed(0)
    arguments: Any = {"names": {"tiny": "vit_tiny_patch16_224"}, "feature": "cls", "weights": "none"}
    network: Any = timm_backbone(spec, size="tiny", **arguments, model_args={"depth": 2, "patch_size": 8}).eval()
    images = TensorImages(pictures(40), torch.arange(40) % 4)
    found = []
    plain: Any = "fp32"
    for place, numbers in ((device, precision), (torch.device("cpu"), plain)):
        runtime = Runtime(World(0, 1, place), numbers, 0, 16)
        network.to(place)
        found.append(embed(network, images, network.input, runtime, num_labels=4, multilabel=False).features)
    assert (found[0] - found[1]).norm(dim=1).max() <= tolerance * found[1].norm(dim=1).max()


def test_neighbours_are_those_of_the_cpu(device: torch.device) -> None:
    columns, rows = (F.normalize(torch.randn(n, 64, generator=generator(n)), dim=1) for n in (3000, 500))
    found, expected = (nearest(columns, rows, 20, place) for place in (device, torch.device("cpu")))
    torch.testing.assert_close(found[0].cpu(), expected[0], rtol=1e-4, atol=1e-5)
    assert (found[1].cpu() == expected[1]).float().mean() > 0.99  # two may change places that are equal to rounding
