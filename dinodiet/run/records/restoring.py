"""Computing with a method in the middle of its training, and leaving it as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def restoring(method: nn.Module) -> Iterator[None]:
    """Let a method compute, and put back all that it keeps: modes, buffers, attributes, the state of random numbers."""
    kept = [(module, dict(vars(module)), dict(module._buffers)) for module in method.modules()]
    values = {id(own): own.clone() for _, _, buffers in kept for own in buffers.values() if own is not None}
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_initialized() else []):
        try:
            yield
        finally:
            for module, attributes, buffers in kept:
                vars(module).clear()
                vars(module).update(attributes)
                module._buffers.update(buffers)
                for own in buffers.values():
                    if own is not None:
                        own.copy_(values[id(own)])
