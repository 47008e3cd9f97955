"""The tokens of a model of transformers, and the class tokens of its last layers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dinodiet.errors import NotApplicable
from dinodiet.types import Tokens


def parted(states: Tensor, prefix: int, class_token: bool) -> Tokens:
    """Return a hidden state (B, T, D) by what its tokens are; `prefix` of them are no patches."""
    return Tokens(states[:, 0] if class_token else None, states[:, int(class_token) : prefix], states[:, prefix:])


def class_tokens(blocks: list[nn.Module], tail: list[nn.Module], forward: Callable[[], Any], last: int) -> Tensor:
    """Return the class tokens (B, last * D) of the last blocks, from the earliest on, each after the final norm.

    The final norm is the first one that follows the blocks: CLIP's is that of its pooler. BEiT has none.

    Args:
        blocks: the modules that return the hidden states, from input to output.
        tail: the modules after them.
        forward: calls the model.
        last: how many blocks.

    Raises:
        NotApplicable: there are fewer blocks.
    """
    if last > len(blocks):
        raise NotApplicable(f"needs {last} blocks; this network has {len(blocks)}")
    norms = [part for part in tail if "Norm" in type(part).__name__]
    with _first_tokens(blocks[-last:]) as found:
        forward()
    return torch.cat([norms[0](token) if norms else token for token in found], dim=1)


@contextlib.contextmanager
def _first_tokens(blocks: list[nn.Module]) -> Iterator[list[Tensor]]:
    """Yield a list that takes up the first token (B, D) of what each block returns."""
    found: list[Tensor] = []

    def keep(module: nn.Module, given: Any, returned: Any) -> None:
        found.append((returned if isinstance(returned, Tensor) else returned[0])[:, 0])

    hooks = [block.register_forward_hook(keep) for block in blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
