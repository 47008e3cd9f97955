"""Position embeddings of other sizes: as their publishers compute them, written down here a second time."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dinodiet.backbones import positions
from dinodiet.backbones.positions import Resizing
from dinodiet.errors import UserError
from tests.backbones.small import build_small, own_state
from tests.backbones.weights.test_timm import save


def dinov2(grid: Tensor, side: int) -> Tensor:
    """What DINOv2 (and DINO) computes for a square grid (1, n, n, D) and a side in patches."""
    maps, scale = grid.permute(0, 3, 1, 2), float(side + 0.1) / grid.shape[1]
    return functional.interpolate(maps, scale_factor=(scale, scale), mode="bicubic").permute(0, 2, 3, 1)


def sized(grid: Tensor, side: int, antialias: bool) -> Tensor:
    """What DINOv2 with registers (antialiased), MAE and I-JEPA (not) compute."""
    maps = grid.permute(0, 3, 1, 2)
    return functional.interpolate(maps, size=(side, side), mode="bicubic", antialias=antialias).permute(0, 2, 3, 1)


@pytest.mark.parametrize(("old", "new"), [(37, 16), (37, 7), (16, 7), (16, 16), (14, 6), (7, 16), (4, 9)])
def test_grids_are_resized_as_published(old: int, new: int) -> None:
    grid = torch.randn(1, old, old, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(
        positions.resized(grid, (new, new), Resizing(False, 0.1)), grid if old == new else dinov2(grid, new)
    )
    for antialias in (True, False):
        found = positions.resized(grid, (new, new), Resizing(antialias))
        torch.testing.assert_close(found, grid if old == new else sized(grid, new, antialias))


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("vit_small_patch14_dinov2.lvd142m", Resizing(False, 0.1)),
        ("vit_giant_patch14_dinov2", Resizing(False, 0.1)),
        ("vit_base_patch14_reg4_dinov2.lvd142m", Resizing(True, 0.0)),
        ("vit_small_patch8_224.dino", Resizing(False, 0.1)),
        ("vit_huge_patch14_224.mae", Resizing(False, 0.0)),
        ("vit_giant_patch16_gap_224.in22k_ijepa", Resizing(False, 0.0)),
        ("vit_base_patch16_clip_224.openai", Resizing(True, 0.0)),
        ("vit_small_patch16_224.augreg_in21k_ft_in1k", Resizing(True, 0.0)),
    ],
)
def test_the_publishers_choice(name: str, how: Resizing) -> None:
    assert positions.published(name) == how


SIDE, CROP, PATCH = 98, 42, 14  # 7 and 3 patches


def stored(size: str, tmp_path: Path, side: int = 140) -> tuple[str, Tensor]:
    """Write weights for 10 x 10 patches; return the file and its grid."""
    state = own_state(build_small("dinov2", size=size, image_size=side))
    grid = torch.randn(state["pos_embed"].shape, generator=torch.Generator().manual_seed(1))
    return save({**state, "pos_embed": grid}, tmp_path / "a.pth"), grid


def grid_of(tokens: Tensor, prefix: int) -> Tensor:
    side = math.isqrt(tokens.shape[1] - prefix)
    grid: Tensor = tokens[:, prefix:].unflatten(1, (side, side))
    return grid


@pytest.mark.parametrize(
    ("size", "changes", "expected"),
    [
        ("small", {}, dinov2),
        ("small", {"pos_embed_antialias": True}, lambda grid, side: sized(grid, side, True)),
        ("small", {"pos_embed_offset": 0.0}, lambda grid, side: sized(grid, side, False)),
        ("small_reg", {}, lambda grid, side: sized(grid, side, True)),
        ("small_reg", {"pos_embed_antialias": False}, dinov2),  # the offset that the family states
    ],
)
def test_weights_and_crops_are_resized_alike(size: str, changes: dict[str, Any], expected: Any, tmp_path: Path) -> None:
    path, embeddings = stored(size, tmp_path)
    backbone = build_small("dinov2", size=size, image_size=SIDE, weights=path, **changes).eval()
    prefix = 0 if size == "small_reg" else 1  # timm keeps none for the class token where there are registers
    loaded = grid_of(backbone.model.pos_embed.detach(), prefix)
    torch.testing.assert_close(loaded, expected(grid_of(embeddings, prefix), SIDE // PATCH))
    if prefix:
        assert torch.equal(backbone.model.pos_embed[:, 0], embeddings[:, 0])
    crop = torch.zeros(2, CROP // PATCH, CROP // PATCH, 48)
    tokens = backbone.model._pos_embed(crop).detach()
    first = backbone.model.num_prefix_tokens
    torch.testing.assert_close(grid_of(tokens, first)[:1], expected(loaded, CROP // PATCH))
    class_token = backbone.model.cls_token + (backbone.model.pos_embed[:, :1] if prefix else 0)
    torch.testing.assert_close(tokens[:1, :1], class_token.detach())


@pytest.mark.parametrize("model", ["mae", "vit_tiny", "aimv2", "dino"])
def test_own_code_with_timms_rule_is_timms_code(model: str) -> None:
    backbone = build_small(model, pos_embed_antialias=True)
    patches = torch.randn(2, 3, 5, 48, generator=torch.Generator().manual_seed(0))
    backbone.model.resizing = Resizing()
    torch.testing.assert_close(positions._add_positions(backbone.model, patches), backbone.model._pos_embed(patches))


def test_it_is_shown_and_tells_forward_passes_apart() -> None:
    published, smooth = (
        build_small("dinov2", size="small"),
        build_small("dinov2", size="small", pos_embed_antialias=True),
    )
    assert published.description.details["positions"] == "resized bicubically, not antialiased, offset 0.1"
    assert smooth.description.details["positions"] == "resized bicubically, antialiased"
    assert published.description.signature != smooth.description.signature


@pytest.mark.parametrize("model", ["dinov3", "resnet18"])
def test_a_model_without_such_embeddings_refuses_a_choice(model: str) -> None:
    build_small(model)
    for key, value in (("pos_embed_antialias", True), ("pos_embed_offset", 0.1)):
        with pytest.raises(UserError, match=rf"^{key}: {value}, .* no position embeddings to resize; leave it null"):
            build_small(model, **{key: value})
