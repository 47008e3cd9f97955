"""Which part of a backbone is trained: all of it, the last n blocks, or none (only the head on top of it)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import MethodType

from torch import nn

from dinodiet.errors import UserError
from dinodiet.types import Backbone


def set_trainable(backbone: Backbone, trainable: str) -> None:
    """Train `all` of the backbone, its `last_<n>_blocks` with what follows them, or nothing of it (`head_only`).

    Parameters of the rest need no gradient, so autograd records nothing of it, and its modules stay in eval mode
    whatever `.train()` says: a frozen BatchNorm keeps its statistics and a frozen block drops no path. Deep copies
    inherit this. May be called again to change the part.

    Raises:
        UserError: `trainable` is malformed or asks for more blocks than there are.
    """
    assert isinstance(backbone, nn.Module)
    kept = _trained_modules(backbone, trainable)
    for module in backbone.modules():
        module.__dict__.pop("train", None)
    backbone.requires_grad_(trainable == "all")
    for module in kept:
        module.requires_grad_(True)
    for module in _frozen_blocks(backbone, trainable):  # what one of them shares with a trained block stays as it is
        module.requires_grad_(False)
    for module in _untouched(backbone, set(kept)) if trainable != "all" else ():
        # A bound method, not a closure: copy.deepcopy binds it to the copy.
        module.eval()
        setattr(module, "train", MethodType(_stay_in_eval, module))  # noqa: B010 - a method is shadowed on purpose
    backbone.train(backbone.training)


def first_trained(backbone: Backbone, trainable: str) -> int:
    """Return the number of the first trained block, from 0; with `head_only` the number of blocks.

    Raises:
        UserError: as `set_trainable`.
    """
    blocks = backbone.freezable_blocks()
    return len(blocks) - (0 if trainable == "head_only" else _count(blocks, trainable))


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _trained_modules(backbone: Backbone, trainable: str) -> list[nn.Module]:
    if trainable in ("all", "head_only"):
        return []
    blocks = backbone.freezable_blocks()
    count = _count(blocks, trainable)
    return [module for block in blocks[-count:] for module in block] + backbone.tail()


def _frozen_blocks(backbone: Backbone, trainable: str) -> list[nn.Module]:
    if trainable == "all":
        return []
    return [module for block in backbone.freezable_blocks()[: first_trained(backbone, trainable)] for module in block]


def _count(blocks: list[list[nn.Module]], trainable: str) -> int:
    """Return n of `last_<n>_blocks`."""
    match = re.fullmatch(r"last_(\d+)_blocks", str(trainable))
    if match is None or int(match[1]) == 0:
        raise UserError(f"trainable: {trainable!r}; choose from: all, last_<n>_blocks with n > 0, head_only")
    count = int(match[1])
    if not blocks:
        raise UserError(f"trainable: {trainable!r}, but this backbone has no blocks; choose from: all, head_only")
    if count > len(blocks):
        raise UserError(f"trainable: {trainable!r}, but the backbone has {len(blocks)} blocks; choose n from 1 to that")
    return count


def _untouched(module: nn.Module, kept: set[nn.Module]) -> Iterator[nn.Module]:
    """Yield the largest modules below `module` that neither are nor hold nor lie in a kept one."""
    for child in module.children():
        if child in kept:
            continue
        if kept.isdisjoint(child.modules()):
            yield child
        else:
            yield from _untouched(child, kept)
