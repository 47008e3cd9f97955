"""The attention of a backbone's blocks, by the names that timm, transformers and this package give its layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

# A module with one of these layers attends: queries, keys and values in one, or queries apart.
_QUERIES = ("qkv", "q_proj", "query", "q", "to_q")
_OUTPUTS = ("proj", "o_proj", "out_proj", "output_proj", "to_out")


@dataclass(frozen=True)
class Attention:
    """An attention: the module that holds its layers for queries, and the layer that mixes its heads at the end."""

    module: nn.Module
    output: nn.Module


def attentions(blocks: Iterable[Iterable[nn.Module]]) -> list[Attention]:
    """Return the attentions within blocks, in their order; what pools tokens after the last block is none of them."""
    found = {
        id(attention.module): attention
        for block in blocks
        for root in block
        for parent in root.modules()
        for attention in _below(parent)
    }
    return list(found.values())


def _below(parent: nn.Module) -> Iterator[Attention]:
    """Yield the attentions that are children of a module."""
    for child in parent.children():
        if isinstance(child, nn.MultiheadAttention) or any(layer(child, name) for name in _QUERIES):
            output = next(filter(None, (layer(child, name) for name in _OUTPUTS)), None) or _beside(parent)
            if output is not None:
                yield Attention(child, output)


def _beside(parent: nn.Module) -> nn.Module | None:
    """Return the layer `output.dense` that stands beside an attention in models of transformers."""
    output = layer(parent, "output")
    return None if output is None else layer(output, "dense")


def layer(module: nn.Module, name: str) -> nn.Module | None:
    """Return a child of a module by its name; None where there is no such child, or it has no parameters."""
    child = module._modules.get(name)
    return child if child is not None and any(True for _ in child.parameters()) else None
