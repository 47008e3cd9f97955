"""The part of a backbone that a value of `trainable` means, found in its modules, or refused with what there is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from torch import nn

from dinodiet.backbones.attention import Attention, attentions
from dinodiet.backbones.trainable import ANYWHERE, KINDS, Kind, Trainable
from dinodiet.errors import UserError
from dinodiet.types import Backbone


@dataclass(frozen=True)
class Part:
    """What is trained, or is to be adapted.

    Attributes:
        modules: trained whole: blocks, and what follows the last.
        layers: in the other blocks, or anywhere.
        parameters: single ones, of modules that are not trained.
        fused: those of `layers` that make queries, keys and values; of LoRA alone.
    """

    modules: list[nn.Module] = field(default_factory=list)
    layers: list[nn.Module] = field(default_factory=list)
    parameters: list[nn.Parameter] = field(default_factory=list)
    fused: list[nn.Linear] = field(default_factory=list)

    def inner(self) -> set[nn.Parameter]:
        """Return the parameters that are not in modules trained whole."""
        return {*_held(self.layers), *self.parameters}

    def held(self) -> set[nn.Parameter]:
        """Return all parameters."""
        return {*_held(self.modules), *self.inner()}


def part_of(backbone: Backbone, chosen: Trainable) -> Part:
    """Return the part of a backbone that is trained, or with LoRA adapted; of `all` nothing is named.

    Raises:
        UserError: it has no such part.
    """
    _check_blocks(backbone, chosen)
    blocks = backbone.freezable_blocks()
    last = blocks[len(blocks) - chosen.blocks :]
    modules = [module for block in last for module in block] + (backbone.tail() if chosen.blocks else [])
    if chosen.rank:
        layers, fused = _adapted(backbone, chosen)
        return Part(modules, layers, fused=fused)
    part = _of_kind(backbone, chosen.kind) if chosen.kind else Part(modules)
    if chosen.kind and not part.held():
        raise _none(backbone, chosen)
    return part


def frozen_blocks(backbone: Backbone, chosen: Trainable) -> list[nn.Module]:
    """Return the modules of all blocks that are not trained whole."""
    blocks = backbone.freezable_blocks()
    return [module for block in blocks[: 0 if chosen.whole else len(blocks) - chosen.blocks] for module in block]


def _adapted(backbone: Backbone, chosen: Trainable) -> tuple[list[nn.Module], list[nn.Linear]]:
    """Return the layers that LoRA adapts, and those of them that make queries, keys and values."""
    found = attentions([frozen_blocks(backbone, chosen)])
    if not found:
        raise _none(backbone, chosen)
    if unknown := [attention for attention in found if not _layers(attention)]:
        raise UserError(
            f"trainable: {chosen.word!r}, but where {type(unknown[0].module).__name__} has its queries and values is "
            f"not known; choose from: {_has(backbone)}"
        )
    layers = [layer for attention in found for layer in _layers(attention)]
    width = min(min(layer.in_features, layer.out_features) for layer in layers)
    if chosen.rank > width:
        raise UserError(f"trainable: {chosen.word!r}, but the attention is {width} wide; choose r from 1 to that")
    return list(layers), [fused for attention in found if (fused := attention.fused()) is not None]


def _layers(attention: Attention) -> list[nn.Linear]:
    fused = attention.fused()
    return attention.apart() if fused is None else [fused]


def _of_kind(backbone: Backbone, kind: Kind) -> Part:
    """Return all layers or parameters of a kind that a backbone has."""
    assert isinstance(backbone, nn.Module)
    if kind == "attn_proj":
        return Part(layers=[attention.output for attention in attentions(backbone.freezable_blocks())])
    if kind == "norms":
        return Part(layers=[module for module in backbone.modules() if _is_norm(module)])
    return Part(parameters=[p for name, p in backbone.named_parameters() if name.endswith((".bias", "_bias"))])


def _is_norm(module: nn.Module) -> bool:
    """Return whether a module normalises, of whatever library: it is called so, and holds vectors alone."""
    own = list(module.parameters(recurse=False))
    named = "norm" in type(module).__name__.lower()
    return named and bool(own) and len(own) == len(list(module.parameters())) and all(p.ndim == 1 for p in own)


def _none(backbone: Backbone, chosen: Trainable) -> UserError:
    where = f" before its last {chosen.blocks}" if chosen.blocks else ""
    what = f"no attention{where}" if chosen.rank or chosen.kind == "attn_proj" else f"no {chosen.kind}"
    return UserError(f"trainable: {chosen.word!r}, but this backbone has {what}; choose from: {_has(backbone)}")


def _has(backbone: Backbone) -> str:
    """Return the values of `trainable` that a backbone has a part for."""
    blocks = ["last_<n>_blocks"] if backbone.freezable_blocks() else []
    found = attentions(backbone.freezable_blocks())
    lora = ["lora_<r>"] if found and all(map(_layers, found)) else []
    return ", ".join([*ANYWHERE, *blocks, *(kind for kind in KINDS if _of_kind(backbone, kind).held()), *lora])


def _check_blocks(backbone: Backbone, chosen: Trainable) -> None:
    """Refuse more blocks than there are."""
    number = len(backbone.freezable_blocks())
    if chosen.blocks and not number:
        raise UserError(f"trainable: {chosen.word!r}, but this backbone has no blocks; choose from: {_has(backbone)}")
    if chosen.blocks > number:
        raise UserError(f"trainable: {chosen.word!r}, but the backbone has {number} blocks; choose n from 1 to that")


def _held(modules: Iterable[nn.Module]) -> Iterator[nn.Parameter]:
    for module in modules:
        yield from module.parameters()
