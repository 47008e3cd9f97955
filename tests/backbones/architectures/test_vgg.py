"""VGG without its classifier."""

import json
from typing import Any

import pytest
import timm
import torch

import dinodiet.backbones.timm  # noqa: F401 - adds to the models of timm
from dinodiet.backbones.architectures.vgg import VGG
from tests.backbones.architectures import dinopl

KNOWN = json.loads((dinopl.FOLDER / "encoders.json").read_text())
WIDTHS = [8, "M", 8, "M", 16, 16, "M", 16, 16, "M", 32, 32, "M"]


@pytest.mark.parametrize(("name", "norm"), [("vgg_layout_small", False), ("vgg_layout_small_bn", True)])
def test_it_is_the_published_encoder(name: str, norm: bool) -> None:
    known, network = dinopl.arrays(), VGG(WIDTHS, norm=norm)
    assert sum(parameter.numel() for parameter in network.parameters()) == int(known[f"{name}.parameters"])
    dinopl.check(network, name)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "vgg19"])
def test_parameters_are_those_that_are_known_and_images_of_any_size_give_512_features(name: str) -> None:
    network: Any = timm.create_model(f"{name}_pooled", num_classes=0).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == KNOWN[name]["parameters"]
    with torch.no_grad():
        for side in (28, 32, 64):
            assert network(torch.rand(2, 3, side, side)).shape == (2, 512)
    assert all(
        not layer.bias.any() for layer in network.features if hasattr(layer, "stride") and hasattr(layer, "bias")
    )
