"""Gradient clipping, per tensor as DINO publishes it or by the global norm; torch's optimisers at their fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

ClipMode = Literal["per_tensor", "global"]


@torch.no_grad()
def clip_gradients_(parameters: Iterable[nn.Parameter], max_norm: float, mode: ClipMode) -> Tensor:
    """Clip gradients in place and return their global norm before clipping; nothing waits for the device.

    The global mode is torch's, which also knows sharded gradients. Torch has no other; ours is the same arithmetic for
    each tensor: a factor max_norm / (norm + 1e-6) where that is below 1.
    """
    if mode == "global":
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch.stack(torch._foreach_norm(gradients))
    torch._foreach_mul_(gradients, (max_norm / (norms + 1e-6)).clamp(max=1.0).unbind())
    total: Tensor = torch.linalg.vector_norm(norms)
    return total


def clip_per_tensor_(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Clip each gradient by its own norm (Caron et al. 2021), in place; return the global norm before clipping."""
    return clip_gradients_(parameters, max_norm, "per_tensor")


def build_fused(make: Callable[..., Optimizer], groups: list[dict[str, Any]]) -> Optimizer:
    """Return `make(params=groups)`, of torch's kernels that update all tensors in one pass where it has them.

    These agree with the loop over tensors to rounding. Who sets `fused` or `foreach` gets what is set; optimisers from
    elsewhere (timm) are as they are.
    """
    optimizer = make(params=[dict(group) for group in groups])
    settings = optimizer.defaults
    if "fused" in settings and settings["fused"] is None and settings.get("foreach") is None:
        return make(params=groups, fused=True)
    return optimizer
