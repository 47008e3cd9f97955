"""Less memory for more time: blocks whose activations are computed again in the backward pass (Chen et al. 2016,
"Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from dinodiet.errors import UserError
from dinodiet.types import Backbone


def recompute_blocks(backbone: nn.Module) -> None:
    """Keep of each trained block only its input until the backward pass, which computes the rest once more.

    Losses and gradients are the same to the bit: the second pass draws the same random numbers, and leaves the
    statistics of BatchNorm as the first one set them. Frozen blocks keep nothing anyway and are left alone. Deep copies
    inherit it.

    Raises:
        UserError: the backbone has no blocks.
    """
    assert isinstance(backbone, Backbone)
    blocks = backbone.freezable_blocks()
    if not blocks:
        raise UserError("grad_checkpointing: true, but this backbone has no blocks to compute again; leave it false")
    for block in blocks:
        for module in block:
            if any(parameter.requires_grad for parameter in module.parameters()):
                # A partial of a bound method, not a closure: copy.deepcopy binds it to the copy.
                setattr(module, "forward", partial(_forward, module.forward))  # noqa: B010 - shadowed on purpose


def _forward(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    module = getattr(forward, "__self__")  # noqa: B009 - of a bound method, which Callable does not know
    contexts = partial(_contexts, module)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what surrounds the first pass, and the second."""
    return contextlib.nullcontext(), _statistics_kept(module)


@contextlib.contextmanager
def _statistics_kept(module: nn.Module) -> Iterator[None]:
    """Leave BatchNorms with the running statistics that they had: a pass in training mode counts once."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    before = [(buffer, buffer.clone()) for part in norms for buffer in part.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)
