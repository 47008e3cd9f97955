"""Stochastic depth that can be set after a backbone is built: a student drops paths, its teacher does not."""

from __future__ import annotations

from timm.layers.drop import DropPath
from torch import nn

from dinodiet.errors import UserError

_NAMES = ("drop_path", "drop_path1", "drop_path2")  # what timm's residual blocks call their places for it


def set_drop_path(module: nn.Module, rate: float) -> None:
    """Let the rate of stochastic depth rise linearly over the residual blocks, from 0 in the first to `rate`.

    Huang et al. 2016 (arXiv:1603.09382), with the spacing of the DINO code. `rate` 0 switches it off.

    Raises:
        UserError: there are no residual blocks that timm could drop.
    """
    blocks = [block for block in module.modules() if any(hasattr(block, name) for name in _NAMES)]
    if rate > 0 and not blocks:
        raise UserError(f"drop_path: {rate}, but this model has no stochastic depth; leave it 0")
    for position, block in enumerate(blocks):
        probability = rate * position / max(len(blocks) - 1, 1)
        for name in _NAMES:
            if hasattr(block, name):
                drop = DropPath(probability) if probability > 0 else nn.Identity()
                setattr(block, name, drop.train(block.training))


def drops_paths(module: nn.Module) -> bool:
    """Return whether a module is a place for stochastic depth, of timm or of transformers."""
    return type(module).__name__.endswith("DropPath")
