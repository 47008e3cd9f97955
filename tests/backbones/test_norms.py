"""Normalisations exchanged in convolutional networks."""

import json
from collections.abc import Callable
from typing import Any, get_args

import pytest
import timm
import torch
from timm.models.resnet import BasicBlock
from torch import nn

import dinodiet.backbones.timm
from dinodiet.backbones.architectures.convnets import ConvNet
from dinodiet.backbones.architectures.resnets import TinyResNet
from dinodiet.backbones.norms import Norm, exchange_norms
from dinodiet.errors import UserError
from dinodiet.types import DataSpec
from tests.backbones.architectures import dinopl

NAMES: dict[Norm, str] = dict(
    zip(get_args(Norm), ("BatchNorm", "InstanceNorm", "GroupNorm8", "LayerNorm", "Identity"), strict=True)
)


def _small_resnet() -> nn.Module:
    return TinyResNet(BasicBlock, (1, 1, 1, 1), (8, 16, 32, 64), num_classes=0)


KNOWN = json.loads((dinopl.FOLDER / "encoders.json").read_text())
BUILT: dict[str, Callable[[], nn.Module]] = {
    "convnet_16_2e_documented": lambda: ConvNet(16, "2e"),
    "resnet18_layout_width8_tiny": _small_resnet,
}


@pytest.mark.parametrize("norm", NAMES)
@pytest.mark.parametrize("name", BUILT)
def test_features_are_those_of_the_published_encoder_with_this_norm(name: str, norm: Norm) -> None:
    """Scales and shifts stay, running statistics of BatchNorm are not used by the others."""
    known, network = dinopl.arrays(), dinopl.loaded(BUILT[name](), name)
    state = network.state_dict()
    exchange_norms(network, norm, name)
    network.load_state_dict({key: value for key, value in state.items() if key in network.state_dict()})
    torch.testing.assert_close(network.eval()(known["image_32"]), known[f"{name}.swap.{NAMES[norm]}.eval_32"])
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == int(known[f"{name}.swap.{NAMES[norm]}.parameters"])


@pytest.mark.parametrize("norm", NAMES)
def test_a_resnet18_has_the_known_number_of_parameters(norm: Norm) -> None:
    network = timm.create_model("resnet18_tiny", num_classes=0)
    exchange_norms(network, norm, "resnet18_tiny")
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == KNOWN["resnet18/tiny_stem"]["norm_parameters"][NAMES[norm]]


def test_group8_is_groups_of_eight_channels() -> None:
    network = nn.Sequential(nn.BatchNorm2d(64), nn.BatchNorm2d(16))
    exchange_norms(network, "group8", "it")
    assert [layer.num_groups for layer in network] == [8, 2]


def test_with_a_layer_norm_an_image_does_not_depend_on_its_batch() -> None:
    network = ConvNet(16, "2e")
    exchange_norms(network, "layer", "it")
    images = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(network.train()(images)[:1], network(images[:1]))


def backbone(**settings: Any) -> Any:
    spec = DataSpec("photos", num_images=8, num_labels=2, native_size=32)
    return dinodiet.backbones.timm.timm_backbone(spec, **{"feature": "pooled", "weights": "none", **settings})


def test_a_backbone_with_another_norm_has_features_of_its_own_in_the_cache_and_is_not_written_for_timm() -> None:
    named = {"size": "18", "names": {"18": "resnet18.tv_in1k"}}
    plain, other = backbone(**named), backbone(**named, norm="instance")
    assert plain.description.signature != other.description.signature
    assert "timm" in plain.export_targets() and not other.export_targets()


@pytest.mark.parametrize(
    ("name", "norm", "told"),
    [
        ("vit_tiny_patch16_224", "layer", "has no BatchNorm to exchange"),
        ("efficientnet_lite0", "layer", "the BatchNormAct2d of efficientnet_lite0 has more inside"),
        ("resnet26d", "group8", None),
        ("regnetx_002", "group8", "has more inside"),
    ],
)
def test_what_has_no_such_norm_says_so(name: str, norm: Norm, told: str | None) -> None:
    network = timm.create_model(name, num_classes=0)
    if told is None:
        exchange_norms(network, norm, name)
        return
    with pytest.raises(UserError, match=f"^norm: {norm}, but .*{told}; leave it null$"):
        exchange_norms(network, norm, name)


def test_published_weights_are_those_of_the_own_norms() -> None:
    with pytest.raises(UserError, match=r"^norm: layer, but the weights of hub .*; choose weights=none$"):
        backbone(size="18", names={"18": "resnet18.tv_in1k"}, norm="layer", weights="hub")


def test_channels_that_eight_does_not_divide_are_refused_with_the_other_choices() -> None:
    network = nn.Sequential(nn.BatchNorm2d(12))
    with pytest.raises(UserError, match=r"has 12 channels at 0; choose from: batch, instance, layer, none$"):
        exchange_norms(network, "group8", "it")
