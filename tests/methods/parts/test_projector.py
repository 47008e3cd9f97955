"""Projectors of the published widths, with and without biases."""

import pytest
import torch
from torch import nn

from dinodiet.methods.parts.projector import Projector


def kinds(head: Projector) -> list[str]:
    return [type(layer).__name__ for layer in head]


def test_hidden_layers_have_a_batchnorm_and_the_last_is_plain() -> None:
    head = Projector(12, hidden_dims=[20, 16], out_dim=6)
    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear"]
    assert head(torch.randn(4, 12)).shape == (4, 6)
    assert {name for name, _ in head.named_parameters() if "bias" in name} == {"1.bias", "4.bias", "6.bias"}


def test_no_hidden_layer_is_a_linear_map() -> None:
    assert kinds(Projector(12, hidden_dims=[], out_dim=6)) == ["Linear"]


@pytest.mark.parametrize("bias", [True, False])
def test_a_bias_in_front_of_a_batchnorm_is_asked_for(bias: bool) -> None:
    first = Projector(12, hidden_dims=[20], bias=bias)[0]
    assert isinstance(first, nn.Linear)
    assert (first.bias is not None) == bias


def test_a_normed_output_has_mean_0_and_no_shift() -> None:
    head = Projector(12, out_dim=6, norm_output=True).train()
    assert {name for name, _ in head.named_parameters() if name.startswith(("3", "4"))} == {"3.weight", "4.weight"}
    projections = head(torch.randn(64, 12, generator=torch.Generator().manual_seed(0)))
    assert torch.allclose(projections.mean(0), torch.zeros(6), atol=1e-5)
    assert torch.allclose(projections.std(0, correction=0), torch.ones(6), atol=1e-3)
