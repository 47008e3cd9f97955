"""Blocks that are computed again in the backward pass: the same numbers, in less memory."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dinodiet.backbones import TimmBackbone
from dinodiet.backbones.freeze import set_trainable
from dinodiet.backbones.recompute import recompute_blocks
from tests.backbones.small import build_small

FAMILIES = ("vit_tiny", "dinov3", "resnet18", "mobilevit_xxs")


def step(backbone: nn.Module) -> tuple[Tensor, dict[str, Tensor], int]:
    """Return embeddings, gradients, and the bytes that were kept for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    backbone.train()
    torch.manual_seed(0)
    side = int(backbone.input.size)  # type: ignore[arg-type]
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        embeddings = backbone(images)
    embeddings.square().mean().backward()
    return (
        embeddings.detach(),
        {n: p.grad for n, p in backbone.named_parameters() if p.grad is not None},
        sum(kept.values()),
    )


def pair(model: str, trainable: str = "all", **changes: Any) -> tuple[TimmBackbone, TimmBackbone]:
    plain = build_small(model, **changes)
    set_trainable(plain, trainable)
    saving = copy.deepcopy(plain)
    recompute_blocks(saving)
    return plain, saving


@pytest.mark.slow
@pytest.mark.parametrize("model", FAMILIES)
def test_the_numbers_are_the_same_to_the_bit(model: str) -> None:
    plain, saving = pair(model, drop_path=0.5)
    for _ in range(2):
        (expected, gradients, _), (found, same, _) = step(plain), step(saving)
        assert torch.equal(found, expected)
        assert gradients.keys() == same.keys()
        assert all(torch.equal(same[name], gradient) for name, gradient in gradients.items())
    for (name, buffer), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(buffer, other), name


def test_less_is_kept() -> None:
    plain, saving = pair("vit_tiny", model_args={"depth": 6, "embed_dim": 48, "num_heads": 3})
    weights = sum(parameter.nbytes for parameter in plain.parameters())
    assert step(saving)[2] - weights < 0.4 * (step(plain)[2] - weights)


def test_frozen_blocks_are_left_alone_and_copies_are_their_own() -> None:
    plain, saving = pair("vit_tiny", "last_1_blocks")
    changed = ["forward" in vars(block) for (block,) in saving.freezable_blocks()]
    assert changed == [False, False, True]
    twin = copy.deepcopy(saving)
    with torch.no_grad():
        for parameter in saving.parameters():
            parameter.zero_()
    assert torch.equal(step(twin)[0], step(plain)[0])
