"""What is asked of a network of timm: its activation, its norms, its patches, how it pools."""

from types import SimpleNamespace

import pytest
from torch import nn

from dinodiet.backbones.to_transformers.conversion import (
    Unlike,
    activation,
    demand_epsilon,
    epsilon,
    patch_side,
    pooled_as,
)


def test_activations_are_known_by_what_they_compute() -> None:
    found = [activation(part) for part in (nn.GELU(), nn.GELU("tanh"), nn.SiLU(inplace=True), nn.ReLU(inplace=True))]
    assert found == ["gelu", "gelu_pytorch_tanh", "silu", "relu"]
    with pytest.raises(Unlike, match="the activation Mish"):
        activation(nn.Mish())


def test_the_epsilon_is_one() -> None:
    one, other = nn.LayerNorm(4, eps=1e-6), nn.LayerNorm(4, eps=1e-5)
    assert epsilon(nn.Sequential(one, nn.Linear(4, 4), one)) == 1e-6
    with pytest.raises(Unlike, match=r"the epsilons 1e-06, 1e-05"):
        epsilon(nn.Sequential(one, other))
    demand_epsilon(one, 1e-6)
    with pytest.raises(Unlike, match=r"the epsilon 1e-05, and transformers' 1e-06"):
        demand_epsilon(other, 1e-6)


def test_patches_are_square() -> None:
    assert patch_side(SimpleNamespace(patch_embed=SimpleNamespace(patch_size=(8, 8)))) == 8
    with pytest.raises(Unlike, match="8 x 4 pixels"):
        patch_side(SimpleNamespace(patch_embed=SimpleNamespace(patch_size=(8, 4))))


def test_pooled_is_one_of_the_others() -> None:
    assert pooled_as(SimpleNamespace(global_pool="avg"), "pooled") == "mean_patch"
    assert pooled_as(SimpleNamespace(global_pool="avg"), "cls") == "cls"
    with pytest.raises(Unlike, match="pools its tokens by 'avgmax'"):
        pooled_as(SimpleNamespace(global_pool="avgmax"), "pooled")
