"""The blocks of a method's towers: the parts of it that FSDP splits one by one."""

from __future__ import annotations

from torch import nn

from dinodiet.methods.base import MethodBase
from dinodiet.types import Backbone


def blocks_of(method: MethodBase) -> list[nn.Module]:
    """Return the blocks with parameters of all towers, each once."""
    towers = [tower for tower in method.towers() if isinstance(tower, Backbone)]
    modules = [module for tower in towers for block in tower.freezable_blocks() for module in block]
    return [module for module in dict.fromkeys(modules) if any(True for _ in module.parameters())]
