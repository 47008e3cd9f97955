"""Models of timm that no file of conf/model names, as `timm_backbone` builds them: a small one of every family."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import timm
import torch
from timm.models import get_pretrained_cfg, model_entrypoint
from torch import nn

from dinodiet.backbones import TimmBackbone, set_trainable, timm_backbone
from dinodiet.backbones.blocks import _named
from dinodiet.backbones.freeze import first_trained
from dinodiet.backbones.recompute import recompute_blocks
from dinodiet.backbones.split import Split
from dinodiet.errors import UserError
from tests.kinds import rest_nightly
from tests.methods.steps import moved
from tests.places import CONF

from .families import FASTEST, FEW, LARGE, NAMES
from .small import DATA

SIDES = (64, 96)  # else the model's own
PRESENT = [name for name in NAMES if timm.is_model(name)]


def built(name: str, side: int | None = None, **changes: Any) -> TimmBackbone:
    own = get_pretrained_cfg(name).input_size[-1]  # type: ignore[union-attr]
    settings = {"feature": "pooled", "weights": "none", "image_size": side or own, **changes}
    return timm_backbone(DATA, size="a", names={"a": name}, **settings)


def on_meta(name: str, side: int | None = None, **changes: Any) -> TimmBackbone:
    with torch.device("meta"):
        return built(name, side, **changes)


def small_side(name: str) -> int | None:
    """Return the first of a few sizes that the model takes; None is its own."""
    for side in SIDES:
        try:
            on_meta(name, side)
        except UserError as refused:
            assert str(refused).startswith("image_size: ") and "\n" not in str(refused)
        else:
            return side
    return None


def numbers(modules: list[nn.Module]) -> set[int]:
    return {id(parameter) for module in modules for parameter in module.parameters()}


def shares(backbone: TimmBackbone) -> list[float]:
    """Return what part of the parameters is trained with the last block, the last two, and so on."""
    total = sum(parameter.numel() for parameter in backbone.parameters())
    found = []
    for n in range(1, len(backbone.freezable_blocks()) + 1):
        set_trainable(backbone, f"last_{n}_blocks")
        found.append(sum(p.numel() for p in backbone.parameters() if p.requires_grad) / total)
    return found


@pytest.mark.parametrize("name", rest_nightly(PRESENT, [name for name in FEW if name in PRESENT]))
def test_blocks_are_sane(name: str) -> None:
    backbone = on_meta(name)
    blocks = backbone.freezable_blocks()
    assert len(blocks) >= 3
    names = [*itertools.chain.from_iterable(backbone._parts.blocks), *backbone._parts.tail]
    assert not any(other.startswith(f"{name}.") for name in names for other in names) and len(set(names)) == len(names)
    trained = shares(backbone)
    assert trained[0] <= 0.8
    assert all(less < more for less, more in itertools.pairwise(trained))


@pytest.mark.parametrize("name", rest_nightly([name for name in PRESENT if name not in LARGE], FASTEST))
def test_every_family_embeds_and_trains(name: str) -> None:
    side = small_side(name)
    torch.manual_seed(0)
    backbone = built(name, side).eval()
    side = backbone.input.size
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embeddings = backbone(images)
    assert embeddings.shape == (2, backbone.embed_dim) and embeddings.isfinite().all()
    blocks = backbone.freezable_blocks()
    shared = numbers([*itertools.chain.from_iterable(blocks[:-1])])
    last = numbers([*blocks[-1], *backbone.tail()]) - shared
    names = {key for key, p in backbone.named_parameters(remove_duplicate=False) if id(p) in last}
    statistics = {key for key, _ in backbone.named_buffers()}
    changed = moved(backbone, "diet", "last_1_blocks")
    assert names - changed == set() and changed - statistics <= names
    assert moved(backbone, "diet", "head_only") == set()
    recompute_blocks(backbone)
    if name != "efficientvim_m1":  # it has parameters that its embedding does not depend on
        assert names < moved(backbone, "diet", "all")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["twins_svt_small", "densenet121", "regnetx_002", "nest_tiny"])
def test_the_rest_of_the_trunk_is_the_backbone_or_the_cache_is_refused(name: str) -> None:
    backbone = built(name, 32).eval()
    set_trainable(backbone, "last_2_blocks")
    split = Split(backbone, first_trained(backbone, "last_2_blocks"))
    images = torch.rand(2, 3, 32, 32)
    try:
        hidden = split.checked(images)
    except UserError as refused:
        assert str(refused).startswith("trunk: ")
    else:
        torch.testing.assert_close(split.rest(hidden, 32), backbone(images))


@pytest.mark.nightly
@pytest.mark.skipif(timm.__version__ != "1.0.31", reason="the table is of this version")
def test_the_table_of_the_readme_is_true() -> None:
    text = (CONF / "README.md").read_text()
    modules = {model_entrypoint(name).__module__ for name in timm.list_models()}
    first = {model_entrypoint(name).__module__: name for name in reversed(NAMES)}
    assert {name for name in modules if name.startswith("timm.")} == first.keys()
    assert f"each of the {len(first)} families of timm {timm.__version__}" in text
    built_once = {name: on_meta(name) for name in first.values()}
    named = [name for name, backbone in built_once.items() if _named(backbone.model) == backbone._parts]
    assert f"(`blocks`, `stages`, `layers`, `layer1`...) | {len(named)} |" in text
    assert f"are over 0.8 of the parameters | {len(first) - len(named)}, such" in text
    with pytest.raises(UserError, match=r"^names: deepseek_vit_412m_enc gives no embedding"):
        on_meta("deepseek_vit_412m_enc")
