"""Models of timm by their names: which there are, what they refuse, and which sizes they take."""

import importlib
import math
import re
import sys
from typing import Any

import pytest
import torch
from timm.models import register_model

from dinodiet.backbones import TimmBackbone, timm_backbone
from dinodiet.backbones.timm_models import create
from dinodiet.data.views.views import MultiCrop
from dinodiet.errors import UserError

from .small import DATA, build
from .test_timm import images, slow


def test_an_unknown_size_lists_the_choices() -> None:
    with pytest.raises(UserError, match=r"^size: 'tiny'; choose from"):
        build("dinov2", size="tiny")


@pytest.mark.parametrize("size", ["b16_1k", "l14_22k"])
def test_sizes_that_were_never_released_say_so(size: str) -> None:
    with pytest.raises(UserError, match=f"^size: .*{size}' .*never released"):
        build("ijepa", size=size)


@pytest.mark.parametrize("name", ["vit_tinny_patch16_224", "resnet18.bogus"])
def test_a_name_that_timm_lacks_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"^names.a: .* has no '{re.escape(name)}'"):
        timm_backbone(DATA, size="a", names={"a": name}, feature="pooled")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("vit_tinny_patch16_224", "vit_tiny_patch16_224"),
        ("resnet18.bogus", "resnet18.a1_in1k"),
        ("timm/resnet18", "resnet18"),
        ("ResNet50", "resnet50"),
        ("zzz", "timm.list_models()"),
    ],
)
def test_names_that_were_perhaps_meant_are_told(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"^names.a: .*{re.escape(meant)}"):
        timm_backbone(DATA, size="a", names={"a": name}, feature="pooled")


def of(name: str, *, side: int | None = None, **changes: Any) -> TimmBackbone:
    """Build a model of timm that no file names, on the meta device."""
    settings: dict[str, Any] = {"feature": "pooled", "weights": "none", "image_size": side, **changes}
    with torch.device("meta"):
        return timm_backbone(DATA, size="a", names={"a": name}, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        slow("crossvit_tiny_240", {"side": 64}, r"^image_size: 64, .* crossvit_tiny_240 .*: 72$"),
        slow("efficientformer_l1", {"side": 96}, r"^image_size: 96, .*: 224$"),
        slow("inception_v3", {"side": 40}, r"^image_size: 40, .*: 96"),
        ("test_convnext", {"side": 16}, r"^image_size: 16, .*: 32$"),
        ("coatnet_pico_rw_224", {"side": 80}, r"^image_size: 80, .*: 64, 96$"),
        ("resnet18", {"model_args": {"in_chans": 1}}, r"^model_args.in_chans: 1; "),
        ("resnet18", {"model_args": {"global_pool": ""}}, r"^names: resnet18 .* \(1, 512, 7, 7\)"),
        ("levit_128s", {"patch_size": 8}, r"^patch_size: levit_128s refuses "),
        ("levit_128s", {"model_args": {"dpeth": 2}}, r"^model_args: levit_128s refuses .*'dpeth'"),
        ("test_vit", {"model_args": {"num_heads": 7}}, r"^model_args: test_vit refuses "),
        ("test_vit", {"model_args": {"num_heads": True}}, r"^model_args.num_heads: True; must be a whole number"),
        ("test_vit", {"model_args": {"class_token": "no"}}, r"^model_args.class_token: 'no'; must be true or false"),
        ("test_vit", {"model_args": {"drop_rate": math.nan}}, r"^model_args.drop_rate: nan; must be a finite number"),
        ("test_vit", {"model_args": {"depth": 100_000}}, r"^model_args.depth: 100000; must be at most 16384"),
        ("test_vit", {"model_args": {"embed_dim": 10**12}}, r"^model_args.embed_dim: 1000000000000; must be at most"),
        ("test_vit", {"model_args": {"pretrained": True}}, r"^model_args.pretrained: leave it out"),
        slow("qwen3_vit_88m", {"side": 64, "feature": "mean_patch"}, r"^feature: 'mean_patch': "),
        ("levit_128s", {"feature": "cls"}, r"^feature: 'cls' .*: pooled$"),
    ],
)
def test_what_a_model_cannot_do_is_told_before_its_weights_are_fetched(
    name: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        of(name, **settings)
    assert "\n" not in str(refused.value)


def test_a_package_that_a_model_needs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    @register_model
    def needs_a_package(**_: Any) -> Any:
        return importlib.import_module("mamba_ssm_that_is_not_there")

    monkeypatch.setitem(sys.modules[__name__].__dict__, "needs_a_package", needs_a_package)
    with pytest.raises(UserError, match=r"^names: needs_a_package needs .* 'mamba_ssm_that_is_not_there'"):
        create("needs_a_package", {})


@pytest.mark.parametrize(
    ("name", "side", "divisor"), [("coatnet_pico_rw_224", 224, 224), ("levit_128s", 64, 64), ("test_convnext", 64, 1)]
)
def test_crops_have_sizes_that_the_model_takes(name: str, side: int, divisor: int) -> None:
    backbone = of(name, side=side)
    assert backbone.input.divisor == divisor
    local = MultiCrop(backbone.input, crops="2+4" if divisor == side else "2+4x48").groups[1][0].size
    assert local == (side if divisor == side else 48)
    with torch.device("meta"):
        assert backbone(images(local).to("meta")).shape == (2, backbone.embed_dim)
    if divisor == side:
        with pytest.raises(UserError, match=rf"^crops: 32 pixels, .* {side} pixels alone"):
            MultiCrop(backbone.input, crops=f"2x{side}+4x32")
