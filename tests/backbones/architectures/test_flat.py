"""Pixels as features, and perceptrons on them."""

import json
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F

from dinodiet.backbones.timm import timm_backbone
from dinodiet.errors import UserError
from dinodiet.types import DataSpec
from tests.backbones.architectures import dinopl

KNOWN = json.loads((dinopl.FOLDER / "encoders.json").read_text())
SPEC = DataSpec("digits", num_images=8, num_labels=2, native_size=28)


def test_pixels_are_the_normalised_image_channel_by_channel() -> None:
    backbone = timm_backbone(
        SPEC, size="pixels", names={"pixels": "pixels"}, feature="pooled", weights="none", image_size=28
    )
    images = torch.rand(2, 3, 28, 28)
    assert backbone.embed_dim == KNOWN["flatten_28"]["features"] == 2352
    assert not list(backbone.parameters())
    torch.testing.assert_close(backbone(images), backbone.normalize(images).flatten(1))


@pytest.mark.parametrize("name", [key.removeprefix("latest/") for key in KNOWN if "mlp" in key])
def test_perceptrons_have_the_known_parameters(name: str) -> None:
    network = timm.create_model(name, num_classes=0, img_size=28)
    known = KNOWN[f"latest/{name}"]
    assert sum(parameter.numel() for parameter in network.parameters()) == known["parameters"]
    assert network(torch.rand(2, 3, 28, 28)).shape == (2, known["features"])


def test_a_perceptron_is_linear_layers_with_gelus() -> None:
    network: Any = timm.create_model("mlp_512_2", num_classes=0, img_size=4)
    images = torch.rand(3, 3, 4, 4)
    (first, _), (second, _) = network.layers
    torch.testing.assert_close(network(images), F.gelu(second(F.gelu(first(images.flatten(1))))))


def test_crops_of_another_size_are_refused() -> None:
    backbone = timm_backbone(SPEC, size="512_1", names={"512_1": "mlp_512_1"}, feature="pooled", weights="none")
    assert backbone.input.divisor == backbone.input.size == 32  # what crops must be a multiple of
    with pytest.raises(UserError, match=r"^norm: layer, but mlp_512_1 has no BatchNorm to exchange; leave it null$"):
        timm_backbone(SPEC, size="512_1", names={"512_1": "mlp_512_1"}, feature="pooled", weights="none", norm="layer")
