"""The blocks of models as people build them: not named as timm does, or called in another order than registered."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dinodiet.backbones.blocks import find_blocks
from dinodiet.backbones.without_values import calls_on_meta, forward_on_meta


def layer(width: int, to: int | None = None) -> nn.Linear:
    return nn.Linear(width, to or width)


class Residual(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.one, self.two = nn.Sequential(layer(width), nn.ReLU(), layer(width)), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.one(x))  # type: ignore[no-any-return]


class Model(nn.Module):
    """Pixels of 2 x 2 images through what a test gives, in the order of its names or in another."""

    def __init__(self, order: str = "", /, **parts: nn.Module) -> None:
        super().__init__()
        self.stem = layer(12, 8)
        for name, part in parts.items():
            self.add_module(name, part)
        self.order = order.split() or list(parts)

    def forward(self, images: Tensor) -> Tensor:
        x: Tensor = self.stem(images.flatten(1))
        for name in self.order:
            x = self.get_submodule(name)(x)
        return x


class Holder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)  # type: ignore[no-any-return]


def found(model: nn.Module) -> tuple[list[list[str]], list[str]]:
    blocks = find_blocks(model, lambda: calls_on_meta(Holder(model), 2, below="model"))
    return blocks.blocks, blocks.tail


def row(number: int, make: Callable[[], nn.Module] = Residual) -> nn.Sequential:
    return nn.Sequential(*(make() for _ in range(number)))


def numbered(name: str, number: int) -> list[list[str]]:
    return [[f"{name}.{n}"] for n in range(number)]


@pytest.mark.parametrize("name", ["units", "cells", "transformer"])
def test_a_row_of_blocks_is_found_by_any_name(name: str) -> None:
    assert found(Model(**{name: row(4), "norm": nn.LayerNorm(8)})) == (numbered(name, 4), ["norm"])


def test_stages_of_attention_blocks_alone_are_opened() -> None:
    """As Swin's, and not ConvNeXt's; nor where only some of the stages are such."""
    model = Model(layers=nn.Sequential(Stage(2, attention=True), Stage(3, attention=True)), norm=nn.LayerNorm(8))
    expected = [[f"layers.{stage}.{name}" for name in names] for stage, names in OPENED]
    assert found(model) == (expected, ["norm"])
    for first in (Stage(2, attention=False), Residual()):
        model = Model(layers=nn.Sequential(first, Stage(3, attention=True)), norm=nn.LayerNorm(8))
        assert found(model) == (numbered("layers", 2), ["norm"])


OPENED = [
    *((0, names) for names in (["step", "blocks.0"], ["blocks.1", "after"])),
    *((1, names) for names in (["step", "blocks.0"], ["blocks.1"], ["blocks.2", "after"])),
]


class Stage(nn.Module):
    def __init__(self, number: int, *, attention: bool) -> None:
        super().__init__()
        self.step = layer(8)
        self.blocks = nn.ModuleList(Residual() for _ in range(number))
        for block in self.blocks if attention else []:
            block.attn = layer(8)
        self.after = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.step(x)
        for block in self.blocks:
            x = block(x)
        return self.after(x)  # type: ignore[no-any-return]


def test_an_encoder_within_the_model_is_opened() -> None:
    assert found(Model(encoder=Encoder(), norm=nn.LayerNorm(8))) == (numbered("encoder.units", 4), ["norm"])


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.units = nn.ModuleList(Residual() for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            x = unit(x)
        return x


def test_the_order_is_that_of_the_forward_pass() -> None:
    model = Model(
        "third first second norm", first=Residual(), second=Residual(), norm=nn.LayerNorm(8), third=Residual()
    )
    assert found(model) == ([["third"], ["first"], ["second"]], ["norm"])


def test_a_small_layer_between_blocks_belongs_to_the_next_and_a_norm_to_the_one_before() -> None:
    parts = {name: Residual() for name in "abc"}
    parts["a"].one.append(layer(8, 100)).append(layer(100, 8))
    model = Model("a a_norm b b_to_c c", **{**parts, "a_norm": nn.LayerNorm(8), "b_to_c": layer(8)})
    assert found(model) == ([["a", "a_norm"], ["b"], ["b_to_c", "c"]], [])


def test_a_tail_that_is_nearly_all_is_divided() -> None:
    """As in HRNet and EfficientViT: what timm calls blocks is less than what comes after them."""
    model = Model(blocks=row(3), wide=layer(8, 64), wider=layer(64, 64), norm=nn.LayerNorm(64))
    assert found(model) == ([*numbered("blocks", 3), ["wide"], ["wider"]], ["norm"])


def test_a_stage_that_is_nearly_all_is_divided_and_a_residual_block_is_not() -> None:
    """As in RegNet, whose last stage has most of its blocks."""
    model = Model(s1=row(1), s2=row(12))
    assert found(model) == ([["s1"], *numbered("s2", 12)], [])
    assert found(Model(blocks=row(1))) == ([["blocks.0"]], [])


def test_layers_in_a_row_are_blocks_where_there_are_no_larger_ones() -> None:
    plain = nn.Sequential(*(part for _ in range(6) for part in (layer(8), nn.ReLU())))
    blocks, tail = found(Model(features=plain))
    assert blocks[:3] == [["stem"], ["features.0", "features.1"], ["features.2", "features.3"]] and len(blocks) == 7
    assert tail == ["features.11"]


def test_where_a_forward_pass_needs_values_the_order_is_that_of_registration() -> None:
    class Looks(Model):
        def forward(self, images: Tensor) -> Tensor:
            assert images.sum().item() != 1
            return super().forward(images)

    assert found(Looks(units=row(3), norm=nn.LayerNorm(8))) == (numbered("units", 3), ["norm"])


def test_values_are_kept_also_of_what_modules_share() -> None:
    first, second = Residual(), Residual()
    second.one = first.one
    model = Model(a=first, b=second)
    first.add_module("spare", model.stem)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert forward_on_meta(model, 2).device.type == "meta"
    after = model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert model.training and not list(model._forward_pre_hooks)
