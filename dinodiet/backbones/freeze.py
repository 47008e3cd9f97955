"""Which part of a backbone is trained: all of it, its last blocks, some of its layers, or none (only the head).

| `trainable` | what is trained |
|---|---|
| `all` | everything |
| `head_only` | nothing |
| `last_<n>_blocks` | the last n blocks, and what follows them |
| `attn_proj` | the layer at the end of the attention in every block (APLA: Sorkhei et al. 2025, arXiv:2503.11335) |
| `norms` | scales and shifts of all normalisations (Frankle et al. 2021, arXiv:2003.00152) |
| `bias` | all biases, those of normalisations too (BitFit: Ben Zaken et al. 2022, arXiv:2106.10199) |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import MethodType

from torch import nn

from dinodiet.backbones.attention import attentions
from dinodiet.backbones.drop_path import drops_paths
from dinodiet.backbones.trainable import ANYWHERE, KINDS, Kind, Trainable, parsed
from dinodiet.errors import UserError
from dinodiet.types import Backbone


@dataclass(frozen=True)
class _Part:
    """What is trained: modules with all that they hold, which are in training mode too, and single parameters."""

    modules: list[nn.Module] = field(default_factory=list)
    parameters: list[nn.Parameter] = field(default_factory=list)

    def held(self) -> list[nn.Parameter]:
        """Return all parameters of it."""
        return [*(parameter for module in self.modules for parameter in module.parameters()), *self.parameters]


def set_trainable(backbone: Backbone, trainable: str) -> None:
    """Train a part of the backbone, which `trainable` names as this module's table does.

    Parameters of the rest need no gradient, so autograd records nothing that only they need, and its modules stay in
    eval mode whatever `.train()` says: a frozen BatchNorm keeps its statistics and a frozen block drops no path. A
    block that is trained in part drops paths. Deep copies inherit this. May be called again to change the part.

    Raises:
        UserError: `trainable` is malformed, asks for more blocks than there are, or for layers that there are none of.
    """
    assert isinstance(backbone, nn.Module)
    chosen = parsed(trainable)
    part = _part(backbone, chosen)
    for module in backbone.modules():
        module.__dict__.pop("train", None)
    if chosen.kind is not None:
        _hold_in_full(backbone, part)
    backbone.requires_grad_(chosen.whole)
    for module in part.modules:
        module.requires_grad_(True)
    for module in _frozen_blocks(backbone, chosen):  # what one of them shares with a trained block stays as it is
        module.requires_grad_(False)
    for parameter in part.held() if chosen.kind is not None else ():
        parameter.requires_grad_(True)
    if not chosen.whole:
        _keep_in_eval(_untouched(backbone, {*part.modules, *_dropping(backbone, chosen, part)}))
    backbone.train(backbone.training)


def first_trained(backbone: Backbone, trainable: str) -> int:
    """Return the number of the first trained block, from 0; with `head_only` the number of blocks.

    It is 0 as well where something before the blocks is trained.

    Raises:
        UserError: as `set_trainable`.
    """
    chosen, blocks = parsed(trainable), backbone.freezable_blocks()
    if chosen.kind is None:
        _check_blocks(backbone, chosen)
        return 0 if chosen.whole else len(blocks) - chosen.blocks
    trained = {id(parameter) for parameter in _part(backbone, chosen).held()}
    assert isinstance(backbone, nn.Module)
    for number in range(len(blocks), 0, -1):  # the last one with nothing trained before it
        behind = [module for block in blocks[number - 1 :] for module in block] + backbone.tail()
        if trained <= {id(parameter) for module in behind for parameter in module.parameters()}:
            return number - 1
    return 0


def _part(backbone: Backbone, chosen: Trainable) -> _Part:
    """Return what is trained of a backbone.

    Raises:
        UserError: it has no such part.
    """
    _check_blocks(backbone, chosen)
    if chosen.kind is not None:
        part = _of_kind(backbone, chosen.kind)
        if not part.held():
            raise UserError(f"trainable: {chosen.word!r}, but this backbone has none; choose from: {_has(backbone)}")
        return part
    if chosen.blocks:
        blocks = backbone.freezable_blocks()[-chosen.blocks :]
        return _Part([module for block in blocks for module in block] + backbone.tail())
    return _Part()


def _of_kind(backbone: Backbone, kind: Kind) -> _Part:
    """Return all layers or parameters of a kind that a backbone has."""
    assert isinstance(backbone, nn.Module)
    if kind == "attn_proj":
        return _Part([attention.output for attention in attentions(backbone.freezable_blocks())])
    if kind == "norms":
        return _Part([module for module in backbone.modules() if _is_norm(module)])
    return _Part(parameters=[p for name, p in backbone.named_parameters() if name.endswith((".bias", "_bias"))])


def _is_norm(module: nn.Module) -> bool:
    """Return whether a module normalises, of whatever library: it is called so, and holds vectors alone."""
    own = list(module.parameters(recurse=False))
    named = "norm" in type(module).__name__.lower()
    return named and bool(own) and len(own) == len(list(module.parameters())) and all(p.ndim == 1 for p in own)


def _has(backbone: Backbone) -> str:
    """Return the values of `trainable` that a backbone has a part for."""
    blocks = ["last_<n>_blocks"] if backbone.freezable_blocks() else []
    return ", ".join([*ANYWHERE, *blocks, *(kind for kind in KINDS if _of_kind(backbone, kind).held())])


def _check_blocks(backbone: Backbone, chosen: Trainable) -> None:
    """Refuse more blocks than there are."""
    number = len(backbone.freezable_blocks())
    if chosen.blocks and not number:
        raise UserError(f"trainable: {chosen.word!r}, but this backbone has no blocks; choose from: {_has(backbone)}")
    if chosen.blocks > number:
        raise UserError(f"trainable: {chosen.word!r}, but the backbone has {number} blocks; choose n from 1 to that")


def _frozen_blocks(backbone: Backbone, chosen: Trainable) -> list[nn.Module]:
    if chosen.whole:
        return []
    blocks = backbone.freezable_blocks()
    return [module for block in blocks[: len(blocks) - chosen.blocks] for module in block]


def _hold_in_full(backbone: Backbone, part: _Part) -> None:
    """Let blocks of which a part is trained hold their numbers as trained ones do: some are kept in half precision."""
    trained = {id(parameter) for parameter in part.held()}
    for block in backbone.freezable_blocks():
        for module in block:
            if not trained.isdisjoint(map(id, module.parameters())):
                module.requires_grad_(True)


def _dropping(backbone: Backbone, chosen: Trainable, part: _Part) -> Iterator[nn.Module]:
    """Yield what drops paths in blocks of which a part is trained."""
    trained = {id(parameter) for parameter in part.held()}
    for module in _frozen_blocks(backbone, chosen):
        if not trained.isdisjoint(map(id, module.parameters())):
            yield from filter(drops_paths, module.modules())


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
