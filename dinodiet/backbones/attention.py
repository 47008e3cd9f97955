"""The attention of a backbone's blocks, by the names that timm, transformers and this package give its layers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import nn

# A module with one of these layers attends: queries, keys and values in one, or queries apart.
_QUERIES = ("qkv", "q_proj", "query", "q", "to_q")
_PAIRS = (("q_proj", "v_proj"), ("query", "value"), ("q", "v"), ("to_q", "to_v"))
# Their layer `qkv` has rows of queries, then of keys, then of values. Other modules may order them by head.
_ORDERED = (
    *("timm.layers.attention", "timm.models.beit", "timm.models.eva", "timm.models.swin_transformer"),
    *("timm.models.swin_transformer_v2", "timm.models.vision_transformer"),
    *("dinodiet.backbones.architectures.aim_layers", "dinodiet.backbones.architectures.mambavision_layers"),
)
_OUTPUTS = ("proj", "o_proj", "out_proj", "output_proj", "to_out")


@dataclass(frozen=True)
class Attention:
    """An attention: the module that holds its layers for queries, and the layer that mixes its heads at the end."""

    module: nn.Module
    output: nn.Module

    def fused(self) -> nn.Linear | None:
        """Return the layer that makes queries, keys and values in this order, in as many rows each; None: others do."""
        qkv = layer(self.module, "qkv")
        return qkv if isinstance(qkv, nn.Linear) and type(self.module).__module__ in _ORDERED else None

    def apart(self) -> list[nn.Linear]:
        """Return the layer of queries and that of values where each has its own; else nothing."""
        for names in _PAIRS:
            found = [part for name in names if isinstance(part := layer(self.module, name), nn.Linear)]
            if len(found) == len(names):
                return found
        return []


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
    """Return a child of a module by its name; None where there is no such child, or it has no parameters.

    Of one with an adapter it is the layer below that.
    """
    child = module._modules.get(name)
    child = child if child is None else child._modules.get("base_layer", child)
    return child if child is not None and any(True for _ in child.parameters()) else None
