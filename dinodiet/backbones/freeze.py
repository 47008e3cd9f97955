"""Which part of a backbone is trained: all of it, its last blocks, some of its layers, or none (only the head).

| `trainable` | what is trained |
|---|---|
| `all` | everything |
| `head_only` | nothing |
| `last_<n>_blocks` | the last n blocks, and what follows them |
| `attn_proj` | the layer at the end of the attention in every block (APLA: Sorkhei et al. 2025, arXiv:2503.11335) |
| `norms` | scales and shifts of all normalisations (Frankle et al. 2021, arXiv:2003.00152) |
| `bias` | all biases, those of normalisations too (BitFit: Ben Zaken et al. 2022, arXiv:2106.10199) |
| `lora_<r>` | updates of rank r of queries and values in every block, see `dinodiet.backbones.adapters` |
| `lora_<r>+last_<n>_blocks` | these in the blocks before the last n (ExPLoRA: Khanna et al. 2025, arXiv:2406.10973) |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from types import MethodType

from torch import nn

from dinodiet.backbones.adapters import add_adapters, check_peft, matrices, merge_adapters
from dinodiet.backbones.drop_path import drops_paths
from dinodiet.backbones.part import Part, frozen_blocks, part_of
from dinodiet.backbones.trainable import parsed
from dinodiet.types import Backbone


def set_trainable(backbone: Backbone, trainable: str) -> None:
    """Train a part of the backbone, which `trainable` names as this module's table does.

    Parameters of the rest need no gradient, so autograd records nothing that only they need, and its modules stay in
    eval mode whatever `.train()` says: a frozen BatchNorm keeps its statistics and a frozen block drops no path. A
    block that is trained in part drops paths. Deep copies inherit this. May be called again to change the part: what
    adapters have learned is then merged.

    Raises:
        UserError: `trainable` is malformed, asks for more blocks than there are, or for layers that there are none of.
    """
    assert isinstance(backbone, nn.Module)
    chosen = parsed(trainable)
    part = part_of(backbone, chosen)
    if chosen.rank:
        check_peft(trainable)
    merge_adapters(backbone)
    for module in backbone.modules():
        module.__dict__.pop("train", None)
    partly = [block for block in frozen_blocks(backbone, chosen) if _holds_any(block, part.inner())]
    for module in partly:  # some hold their numbers in full precision only where something is trained
        module.requires_grad_(True)
    if chosen.rank:
        part = _with_adapters(backbone, part, chosen.rank)
    backbone.requires_grad_(chosen.whole)
    for module in part.modules:
        module.requires_grad_(True)
    for module in frozen_blocks(backbone, chosen):  # what one of them shares with a trained block stays as it is
        module.requires_grad_(False)
    for parameter in part.inner():
        parameter.requires_grad_(True)
    if not chosen.whole:
        dropping = [place for block in partly for place in block.modules() if drops_paths(place)]
        _keep_in_eval(_untouched(backbone, {*part.modules, *part.layers, *dropping}))
    backbone.train(backbone.training)


def first_trained(backbone: Backbone, trainable: str) -> int:
    """Return the number of the first trained block, from 0; with `head_only` the number of blocks.

    It is 0 as well where something before the blocks is trained.

    Raises:
        UserError: as `set_trainable`.
    """
    chosen, blocks = parsed(trainable), backbone.freezable_blocks()
    part = part_of(backbone, chosen)
    if not chosen.in_part:
        return 0 if chosen.whole else len(blocks) - chosen.blocks
    for number in range(len(blocks), 0, -1):  # the last one with nothing trained before it
        behind = [module for block in blocks[number - 1 :] for module in block] + backbone.tail()
        if part.held() <= {parameter for module in behind for parameter in module.parameters()}:
            return number - 1
    return 0


def _with_adapters(backbone: nn.Module, part: Part, rank: int) -> Part:
    """Return a part in which the adapters of its layers stand for these."""
    whole = [layer for layer in part.layers if isinstance(layer, nn.Linear) and layer not in part.fused]
    add_adapters(backbone, rank, whole=whole, fused=part.fused)
    return replace(part, layers=matrices(backbone))


def _holds_any(module: nn.Module, parameters: set[nn.Parameter]) -> bool:
    return not parameters.isdisjoint(module.parameters())


def _keep_in_eval(modules: Iterable[nn.Module]) -> None:
    for module in modules:
        # A bound method, not a closure: copy.deepcopy binds it to the copy.
        module.eval()
        setattr(module, "train", MethodType(_stay_in_eval, module))  # noqa: B010 - a method is shadowed on purpose


def _stay_in_eval(module: nn.Module, mode: bool = True) -> nn.Module:
    return module


def _untouched(module: nn.Module, kept: set[nn.Module]) -> Iterator[nn.Module]:
    """Yield the largest modules below `module` that neither are nor hold nor lie in a kept one."""
    for child in module.children():
        if child in kept:
            continue
        if kept.isdisjoint(child.modules()):
            yield child
        else:
            yield from _untouched(child, kept)
