"""Attention maps: those of a published implementation, and of every family that has a class token."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from dinodiet.config.build import build
from dinodiet.errors import NotApplicable
from dinodiet.features.attention_maps import attention_weights, class_attention, largest_mass, last_attention
from dinodiet.types import Backbone, DataSpec, Tokened
from tests.contracts.choices import names, small_model
from tests.kinds import networks_nightly
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "attention.npz")
SPEC = DataSpec("photos", num_images=10, num_labels=2)
KINDS: dict[str, dict[str, Any]] = {
    "dino": {},
    "registers": {"reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5},
}


def given(name: str) -> Tensor:
    return torch.from_numpy(REFERENCE[name])


def network(kind: str) -> VisionTransformer:
    small: dict[str, Any] = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 0}
    model = VisionTransformer(img_size=32, dynamic_img_size=True, **small, **KINDS[kind])
    model.load_state_dict(load_file(REFERENCES / f"attention_{kind}.safetensors"))
    return model.eval()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("picture", ["a", "b"])
@torch.no_grad()
def test_the_attention_is_that_of_the_reference(kind: str, picture: str) -> None:
    block: Any = list(network(kind).blocks)[1]
    tokens = given(f"{kind}.{picture}.last_block_in")
    found = last_attention(lambda x: block.attn(block.norm1(x)), block.attn, tokens)
    torch.testing.assert_close(found, given(f"{kind}.{picture}.attention"), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.sum(-1), torch.ones(found.shape[:-1]), rtol=0, atol=1e-5)


class Shown(torch.nn.Module):
    """A network of timm as a backbone shows it, without normalisation of its images."""

    embed_dim, input, description = 24, None, None

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.model = network(kind)

    def forward(self, images: Tensor) -> Tensor:
        made: Tensor = self.model(images)
        return made

    def freezable_blocks(self) -> list[list[Any]]:
        return [[block] for block in self.model.blocks]

    def tail(self) -> list[Any]:
        return []

    def token_layout(self) -> Any:
        from dinodiet.backbones.timm_tokens import layout

        return layout(self.model)

    def tokens(self, images: Tensor) -> Any:
        from dinodiet.backbones.timm_tokens import tokens

        return tokens(self.model, images)

    def class_tokens(self, images: Tensor, last: int) -> Any: ...


@pytest.mark.parametrize("kind", KINDS)
def test_maps_of_the_class_token_skip_registers(kind: str) -> None:
    found = class_attention(Shown(kind), given("image_a"))
    torch.testing.assert_close(found, given(f"{kind}.a.class_maps"), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.mean(1), given(f"{kind}.a.class_map_mean"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("picture", ["a", "b"])
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.9, 1.0])
def test_the_largest_mass_is_that_of_the_reference(kind: str, picture: str, threshold: float) -> None:
    maps, expected = given(f"{kind}.{picture}.class_maps"), given(f"{kind}.{picture}.mask_{threshold}")
    assert torch.equal(largest_mass(maps.flatten(2), threshold).view_as(maps), expected.bool())


def test_the_largest_mass_by_hand() -> None:
    weights = torch.tensor([0.3, 0.5, 0.2])
    assert largest_mass(weights, 0.6).tolist() == [True, True, False]
    assert largest_mass(weights, 1.0).tolist() == [True] * 3
    assert largest_mass(10 * weights, 0.5).tolist() == [False, True, False]


@pytest.mark.parametrize("mask", [None, torch.randn(5, 7)])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_weights_times_values_are_torchs_attention(mask: Tensor | None, scale: float | None) -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 5, 4), torch.randn(2, 3, 7, 4), torch.randn(2, 3, 7, 4)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale)
    found = attention_weights(query, key, value, attn_mask=mask, scale=scale) @ value
    torch.testing.assert_close(found, expected)


def has_class_token(backbone: Any) -> bool:
    try:
        return bool(backbone.token_layout().class_token)
    except NotApplicable:
        return False


@pytest.mark.parametrize("name", networks_nightly(names("model")))
def test_a_model_shows_its_attention_or_is_refused_by_name(name: str) -> None:
    backbone: Any = build(small_model(name), "model", Backbone)(spec=SPEC)
    side = backbone.input.size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    backbone.eval()
    before = backbone(images)
    try:
        maps = class_attention(backbone, images)
    except NotApplicable as refused:
        assert str(refused).startswith("needs ")
        shown = False
    else:
        shown = True
        assert maps.ndim == 4 and len(maps) == 2 and maps.shape[2] == maps.shape[3]
        assert bool((maps >= 0).all()) and bool((maps.sum((2, 3)) <= 1 + 1e-5).all())
    assert torch.equal(backbone(images), before)  # and no hook is left
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())
    assert shown == (isinstance(backbone, Tokened) and has_class_token(backbone))
