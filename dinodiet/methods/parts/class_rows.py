"""The rows of a linear layer over many classes, whole on every process or spread over all of them."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from dinodiet.processes.gathering import size
from dinodiet.processes.sharding import Shard, own_shard

Sharded = Literal["auto"] | bool
LARGE = 2**26  # bytes of a weight in float32, 64 MiB, from which on auto spreads it; gradient and AdamW's state add 3 x
DRAWN = 2**22  # numbers that are drawn at a time


class ClassRows(nn.Module):
    """The rows that this process holds of the weight (classes, D) of a linear layer without bias.

    The weight has the values that the layer as a whole has in these rows. Its state dict has its own rows; what is
    loaded are all rows, of which it takes its own.
    """

    def __init__(self, in_features: int, classes: int) -> None:
        super().__init__()
        self.shard = own_shard(classes)
        self.weight = nn.Parameter(_drawn(in_features, self.shard))

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Take the own rows of a whole weight; a state of other rows is refused, as that of another process may be."""
        key = f"{prefix}weight"
        if key in state_dict:
            found = state_dict[key]
            if len(found) != self.shard.total:
                raise ValueError(f"{key} has {len(found)} rows; a state has those of all processes, {self.shard.total}")
            state_dict[key] = self.shard.of(found)
        super()._load_from_state_dict(state_dict, prefix, *others)


def class_rows(in_features: int, classes: int, sharded: Sharded) -> nn.Linear | ClassRows:
    """Return a linear layer without bias, or this process's rows of it; one process holds it whole in any case.

    `auto` spreads it over several processes where its weight takes `LARGE` bytes or more.
    """
    large = 4 * classes * in_features >= LARGE
    if size() > 1 and (large if sharded == "auto" else sharded):
        return ClassRows(in_features, classes)
    return nn.Linear(in_features, classes, bias=False)


def shard_in(layer: nn.Linear | ClassRows) -> Shard | None:
    """Return which rows a layer has; None: all."""
    return layer.shard if isinstance(layer, ClassRows) else None


def shards_in(module: nn.Module) -> dict[str, Shard]:
    """Return the parameters of a module of which every process holds other rows, by name."""
    rows = {name: layer for name, layer in module.named_modules() if isinstance(layer, ClassRows)}
    return {f"{name}.weight" if name else "weight": layer.shard for name, layer in rows.items()}


def _drawn(in_features: int, shard: Shard) -> Tensor:
    """Return own rows of what `nn.Linear` draws, and leave the random state as it does; it never holds them all."""
    own, step = torch.empty(len(shard), in_features), max(DRAWN // in_features, 1)
    for start in range(0, shard.total, step):
        rows = nn.Linear(in_features, min(step, shard.total - start), bias=False).weight.detach()
        first, last = max(start, shard.start), min(start + len(rows), shard.stop)
        if first < last:
            own[first - shard.start : last - shard.start] = rows[first - start : last - start]
    return own
