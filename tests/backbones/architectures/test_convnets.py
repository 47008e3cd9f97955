"""Small convolutional networks of the DINO experiment bed."""

import json

import pytest
import timm
import torch

import dinodiet.backbones.timm  # noqa: F401 - adds to the models of timm
from dinodiet.backbones.architectures.convnets import ConvNet, DeepConvNet
from tests.backbones.architectures import dinopl

KNOWN = json.loads((dinopl.FOLDER / "encoders.json").read_text())
FORMS = {"documented/convnet_": "convnet_{}_{}", "latest/convnet_": "convnet_{}_x{}"}
CASES = {
    key: form.format(*key.removeprefix(prefix).split("_"))
    for prefix, form in FORMS.items()
    for key in KNOWN
    if key.startswith(prefix)
}


@pytest.mark.parametrize(("form", "name"), [("1e", "convnet_16_1e_documented"), ("2e", "convnet_16_2e_documented")])
def test_the_documented_form_is_the_published_encoder(form: str, name: str) -> None:
    dinopl.check(ConvNet(16, form), name)


def test_the_later_form_is_the_published_encoder() -> None:
    dinopl.check(DeepConvNet(16, 3), "convnet_16_3_latest")


@pytest.mark.parametrize("key", CASES)
def test_parameters_and_features_are_those_that_are_known(key: str) -> None:
    network = timm.create_model(CASES[key], num_classes=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == KNOWN[key]["parameters"]
    for side, shape in KNOWN[key]["output"].items():
        assert list(network(torch.rand(2, 3, int(side), int(side))).shape) == shape
    assert network.num_features == KNOWN[key]["features"]


def test_convolutions_begin_as_he_has_them_by_what_they_pass_on() -> None:
    torch.manual_seed(0)
    network = DeepConvNet(32, 4)
    expected = (2 / (32 * 9)) ** 0.5  # fan-out
    assert network.sequential[2][0].weight.std().item() == pytest.approx(expected, rel=0.03)  # type: ignore[index]
    assert network.sequential[0][0].weight.std().item() == pytest.approx(expected, rel=0.05)  # type: ignore[index]
