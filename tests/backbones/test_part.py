"""The part of a backbone that a value of `trainable` means, of any module with blocks, or what it lacks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dinodiet.backbones import set_trainable
from dinodiet.backbones.part import frozen_blocks, part_of
from dinodiet.backbones.trainable import parsed
from dinodiet.errors import UserError
from tests.backbones.toy import Toy

from .small import build_small


class Plain(Toy):
    """A backbone that knows nothing of this package: nested blocks, a parameter of its own, no dropout."""

    def __init__(self) -> None:
        super().__init__(4, side=8)
        self.token = nn.Parameter(torch.zeros(1))
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.body(images + self.token).mean(dim=(2, 3))
        return pooled

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[self.body[0], self.body[1]], [self.body[2], self.body[3]]]


class Bare(Toy):
    """One layer, no blocks."""

    def __init__(self) -> None:
        super().__init__(4, side=1)
        self.layer = nn.Linear(3, 4)


def test_any_module_with_blocks_can_be_frozen() -> None:
    backbone: Any = Plain()
    set_trainable(backbone, "last_1_blocks")
    backbone.train()
    assert [m.training for m in backbone.body] == [False, False, True, True]
    assert {name for name, p in backbone.named_parameters() if p.requires_grad} == {
        *("body.2.weight", "body.2.bias", "body.3.weight", "body.3.bias"),
    }


@pytest.mark.parametrize(
    ("model", "trainable", "has"),
    [
        ("resnet18", "attn_proj", "all, head_only, last_<n>_blocks, norms, bias"),
        ("plain", "attn_proj", "all, head_only, last_<n>_blocks, norms, bias"),
        ("bare", "norms", "all, head_only, bias"),
    ],
)
def test_what_a_backbone_has_none_of_is_refused_with_what_it_has(model: str, trainable: str, has: str) -> None:
    backbone: Any = {"plain": Plain, "bare": Bare}.get(model, lambda: build_small(model))()
    with pytest.raises(UserError) as error:
        set_trainable(backbone, trainable)
    what = "attention" if trainable == "attn_proj" else trainable
    assert str(error.value) == f"trainable: '{trainable}', but this backbone has no {what}; choose from: {has}"
    assert all(p.requires_grad for p in backbone.parameters())


def test_a_backbone_without_blocks_says_so() -> None:
    backbone: Any = Plain()
    backbone.freezable_blocks = list
    with pytest.raises(UserError, match=r"^trainable: .* no blocks"):
        set_trainable(backbone, "last_1_blocks")


def test_a_part_holds_whole_blocks_and_single_layers_of_the_others() -> None:
    backbone: Any = Plain()
    last, norms, bias = (part_of(backbone, parsed(word)) for word in ("last_1_blocks", "norms", "bias"))
    assert last.modules == [backbone.body[2], backbone.body[3]] and not last.inner()
    assert norms.layers == [backbone.body[1], backbone.body[3]] and norms.inner() == norms.held()
    assert bias.inner() == {layer.bias for layer in backbone.body}
    assert frozen_blocks(backbone, parsed("last_1_blocks")) == [backbone.body[0], backbone.body[1]]
    assert frozen_blocks(backbone, parsed("all")) == []
