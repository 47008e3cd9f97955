from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dinodiet.backbones import TimmBackbone, timm_backbone
from dinodiet.backbones.timm_models import Feature
from dinodiet.errors import NotApplicable
from dinodiet.types import Coverable, DataSpec, Tokened, TokenLayout

SMALL: dict[str, Any] = {"depth": 5, "embed_dim": 24, "num_heads": 2}


def made(name: str, feature: Feature = "cls", **args: Any) -> TimmBackbone:
    spec = DataSpec("photos", num_images=10, num_labels=2)
    torch.manual_seed(0)
    backbone = timm_backbone(
        spec,
        size="x",
        names={"x": name},
        feature=feature,
        weights="none",
        image_size=28 if "14" in name else 32,
        model_args=dict(args),
    )
    return backbone.eval()


def pictures(backbone: TimmBackbone) -> Tensor:
    side = backbone.input.size
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "registers", "patch"),
    [("vit_tiny_patch16_224", 0, 16), ("vit_small_patch14_reg4_dinov2", 4, 14), ("vit_small_patch16_dinov3", 4, 16)],
)
@torch.no_grad()
def test_tokens_are_those_of_forward_features(name: str, registers: int, patch: int) -> None:
    backbone = made(name, **SMALL)
    given = pictures(backbone)
    expected = backbone.model.forward_features(backbone.normalize(given))
    found = backbone.tokens(given)
    assert isinstance(backbone, Tokened) and backbone.token_layout() == TokenLayout(24, True, 5, 1 + registers, patch)
    assert found.class_token is not None and found.registers.shape == (2, registers, 24)
    assert torch.equal(torch.cat([found.class_token[:, None], found.registers, found.patches], dim=1), expected)
    assert torch.equal(found.class_token, backbone(given))


@torch.no_grad()
def test_class_tokens_of_the_last_blocks_are_timms_own() -> None:
    backbone = made("vit_small_patch14_reg4_dinov2", **SMALL)
    given = pictures(backbone)
    layers = backbone.model.get_intermediate_layers(
        backbone.normalize(given), n=4, return_prefix_tokens=True, norm=True
    )
    expected = torch.cat([prefix[:, 0] for _, prefix in layers], dim=1)
    found = backbone.class_tokens(given, 4)
    assert found.shape == (2, 4 * 24) and torch.equal(found, expected)
    assert torch.equal(found[:, -24:], backbone(given))


@torch.no_grad()
def test_a_model_that_pools_before_its_norm_has_normalised_tokens() -> None:
    backbone = made("beit_base_patch16_224", "mean_patch", **SMALL)
    given = pictures(backbone)
    assert isinstance(backbone.model.fc_norm, torch.nn.LayerNorm)
    found = backbone.tokens(given)
    raw = backbone.model.forward_features(backbone.normalize(given))
    torch.testing.assert_close(found.patches, backbone.model.fc_norm(raw[:, 1:]))
    assert found.class_token is not None
    torch.testing.assert_close(backbone.class_tokens(given, 1), found.class_token)


@torch.no_grad()
def test_what_has_no_class_token_says_so() -> None:
    backbone = made("vit_base_patch16_siglip_224", "map", **SMALL, act_layer="gelu_tanh")
    found = backbone.tokens(pictures(backbone))
    assert found.class_token is None and found.patches.shape == (2, 4, 24) and found.registers.shape == (2, 0, 24)
    assert not backbone.token_layout().class_token
    with pytest.raises(NotApplicable, match="needs a class token; VisionTransformer has none"):
        backbone.class_tokens(pictures(backbone), 2)


@pytest.mark.parametrize("name", ["resnet18", "swin_tiny_patch4_window7_224"])
def test_networks_that_give_maps_are_refused(name: str) -> None:
    backbone = made(name, "pooled")
    with pytest.raises(NotApplicable, match=r"needs the tokens of a transformer; .* has none"):
        backbone.token_layout()
    with pytest.raises(NotApplicable, match="tokens"):
        backbone.tokens(pictures(backbone))


def test_a_transformer_whose_blocks_timm_does_not_show_is_refused() -> None:
    backbone = made("cait_xxs24_224", "cls", depth=2, embed_dim=24, num_heads=2)
    with pytest.raises(NotApplicable, match="which timm's Cait does not show"):
        backbone.class_tokens(pictures(backbone), 2)


COVERED = (
    "vit_tiny_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "eva02_tiny_patch14_224",
)


@pytest.mark.parametrize("name", COVERED)
@torch.no_grad()
def test_with_no_patch_covered_it_is_the_whole_network(name: str) -> None:
    backbone = made(name, **SMALL)
    given = pictures(backbone)
    embeddings, patches = backbone.embedding_and_patches(given)
    assert isinstance(backbone, Coverable)
    assert torch.equal(embeddings, backbone(given))
    assert torch.equal(patches, backbone.tokens(given).patches)
    again, _ = backbone.embedding_and_patches(given, torch.zeros(2, 4, dtype=torch.bool), torch.ones(24))
    assert torch.equal(again, embeddings)


@pytest.mark.parametrize("name", COVERED)
def test_a_covered_patch_is_the_token_at_its_place(name: str) -> None:
    backbone = made(name, feature="mean_patch", **SMALL)
    given, token = pictures(backbone).requires_grad_(), torch.randn(24, requires_grad=True)
    covered = torch.tensor([[True, False, False, True], [False, False, True, False]])
    embeddings, patches = backbone.embedding_and_patches(given, covered, token)
    torch.autograd.backward((embeddings @ torch.randn(24)).sum())
    assert given.grad is not None and token.grad is not None
    side = backbone.token_layout().patch
    seen = given.grad.abs().sum(1).unflatten(2, (2, side)).unflatten(1, (2, side)).sum((2, 4)).flatten(1)
    assert torch.equal(seen == 0, covered)
    assert token.grad.any()
    assert not backbone.model.patch_embed._forward_hooks
    if backbone.model.pos_embed is not None:
        assert not torch.allclose(patches[0, 0], patches[0, 3])  # the token has the position of its patch


def test_networks_without_patches_cannot_cover_them() -> None:
    with pytest.raises(NotApplicable, match="patches can be covered"):
        made("beit_base_patch16_224", depth=1).embedding_and_patches(torch.zeros(1, 3, 32, 32))
