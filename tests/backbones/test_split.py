"""Trunk and rest together are the backbone, exactly: outputs, gradients, statistics; for every family."""

import contextlib
import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from dinodiet.backbones.freeze import first_trained, set_trainable
from dinodiet.backbones.split import Split
from dinodiet.config.build import build
from dinodiet.errors import UserError
from dinodiet.types import Backbone
from tests.backbones.toy import Toy
from tests.contracts.choices import small_model
from tests.kinds import rest_nightly

from .small import DATA, SMALL, build_small

TRAINABLE = {
    "mambavision": ("last_1_blocks", "last_4_blocks", "last_6_blocks"),
    "aim": ("last_1_blocks", "last_3_blocks"),
}
FAMILIES = [*(name for name in SMALL if name != "resnet18"), "aim", "mambavision"]  # resnet5m is one, and smaller


def small(family: str) -> Backbone:
    """Return a small member: two of AIM's averaged blocks are frozen and one is trained, MambaVision pads windows."""
    torch.manual_seed(0)
    if family in SMALL:
        return build_small(family)
    backbone: Backbone = build(small_model(family), "model")(spec=DATA)
    return backbone


@contextlib.contextmanager
def computing_nothing_frozen(backbone: Backbone) -> Iterator[None]:
    """Fail if a layer of a frozen block is called."""

    def fail(layer: nn.Module, _: object) -> None:
        pytest.fail(f"{layer} was called")

    blocks = [module for block in backbone.freezable_blocks() for module in block]
    layers = [layer for module in blocks for layer in list(module.modules())[1:]]
    layers = [
        layer for layer in layers if all(not p.requires_grad for p in layer.parameters()) and list(layer.parameters())
    ]
    handles = [layer.register_forward_pre_hook(fail) for layer in layers]
    yield
    for handle in handles:
        handle.remove()


def trained_state(backbone: Backbone, found: Tensor) -> dict[str, Tensor]:
    """Return the gradients of a function of the output, and all statistics."""
    assert isinstance(backbone, nn.Module)
    direction = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    torch.autograd.backward((found * direction).sum())
    grads = {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
    return {**grads, **{name: buffer.clone() for name, buffer in backbone.named_buffers()}}


@pytest.mark.parametrize("family", rest_nightly(FAMILIES, list(FAMILIES)[::4]))
def test_the_rest_of_the_trunk_is_the_backbone(family: str) -> None:
    whole = small(family)
    assert isinstance(whole, nn.Module)
    if sum(isinstance(part, nn.Conv2d) for part in whole.modules()) > 2:
        whole.to(memory_format=torch.channels_last)
    images = torch.randn(3, 3, whole.input.size, whole.input.size, generator=torch.Generator().manual_seed(0))
    for trainable in TRAINABLE.get(family, ("last_2_blocks",)):
        set_trainable(whole, trainable)
        whole.zero_grad()
        halves = copy.deepcopy(whole)
        whole.train()
        halves.train()
        split = Split(halves, first_trained(halves, trainable))
        names = list(halves.state_dict())
        hidden = split.trunk(images)
        assert all(len(part) == 3 and not part.requires_grad for part in hidden)
        with computing_nothing_frozen(halves):
            found = split.rest(hidden, images.shape[-1])
        expected = whole(images)
        assert torch.equal(found, expected)
        ours, theirs = trained_state(halves, found), trained_state(whole, expected)
        assert ours.keys() == theirs.keys()
        assert any(name.endswith("weight") for name in ours)
        for name, value in theirs.items():
            assert torch.equal(ours[name], value), name
        assert list(halves.state_dict()) == names
        assert torch.equal(halves(images), whole(images))  # nothing is left behind in the modules
        split.checked(images[:1])


@pytest.mark.parametrize("family", ["vit_tiny", "dinov3", "mambavision"])
def test_also_in_mixed_precision(family: str) -> None:
    backbone = small(family)
    assert isinstance(backbone, nn.Module)
    backbone.eval()
    set_trainable(backbone, "last_2_blocks")
    split = Split(backbone, first_trained(backbone, "last_2_blocks"))
    images = torch.randn(2, 3, backbone.input.size, backbone.input.size, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(split.rest(split.trunk(images), images.shape[-1]), backbone(images))


def test_a_frozen_backbone_is_all_trunk() -> None:
    backbone = build_small("vit_tiny")
    set_trainable(backbone, "head_only")
    split = Split(backbone, first_trained(backbone, "head_only"))
    images = torch.randn(2, 3, 32, 32)
    (embedding,) = split.trunk(images)
    assert torch.equal(embedding, backbone(images))
    assert split.rest((embedding,), 32) is embedding
    assert split.trained() == []


class Shortcut(Toy):
    """What a trunk makes of the images reaches the end past the last block."""

    def __init__(self) -> None:
        super().__init__(4, side=4)
        self.first, self.last = nn.Linear(48, 4), nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images.flatten(1))
        return hidden + torch.relu(self.last(hidden))  # type: ignore[no-any-return]

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[self.first], [self.last]]


def test_a_backbone_that_is_no_chain_is_refused() -> None:
    backbone = Shortcut()
    set_trainable(backbone, "last_1_blocks")
    with pytest.raises(UserError, match=r"^trunk: .* no chain"):
        Split(backbone, 1).checked(torch.randn(1, 3, 4, 4))
