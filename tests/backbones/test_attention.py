"""Attentions of networks of several libraries, and their layers."""

from typing import Any

import pytest

from dinodiet.backbones.attention import Attention, attentions
from dinodiet.config.build import build
from dinodiet.types import Backbone, DataSpec
from tests.contracts.choices import small_model

SPEC = DataSpec("photos", num_images=10, num_labels=2)


def found(name: str) -> list[Attention]:
    backbone: Any = build(small_model(name), "model", Backbone)(spec=SPEC)
    return attentions(backbone.freezable_blocks())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit", "dinov2", "mae", "beit", "swin", "aim", "mambavision", "mobilevit"])
def test_one_layer_makes_queries_keys_and_values(name: str) -> None:
    for attention in found(name):
        fused = attention.fused()
        assert fused is not None and fused.out_features == 3 * fused.in_features
        assert not attention.apart()
        assert attention.output.weight.shape == (fused.in_features, fused.in_features)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hf", "rad_dino"])
def test_queries_and_values_have_layers_of_their_own(name: str) -> None:
    for attention in found(name):
        queries, values = attention.apart()
        assert attention.fused() is None
        assert queries is not values and queries.weight.shape == values.weight.shape


@pytest.mark.parametrize("name", ["resnet", "convnext", "efficientnet_lite0", "vgg"])
def test_a_network_of_convolutions_has_none(name: str) -> None:
    assert found(name) == []


def test_there_is_one_in_each_block_of_a_transformer() -> None:
    assert len(found("vit")) == small_model("vit")["model_args"]["depth"]
