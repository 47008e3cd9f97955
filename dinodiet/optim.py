"""Gradient clipping, per tensor as DINO publishes it or by the global norm; optimisers are torch's and timm's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

ClipMode = Literal["per_tensor", "global"]


@torch.no_grad()
def clip_gradients_(parameters: Iterable[nn.Parameter], max_norm: float, mode: ClipMode) -> Tensor:
    """Clip gradients in place and return their global norm before clipping.

    The arithmetic of `torch.nn.utils.clip_grad_norm_`: a factor max_norm / (norm + 1e-6) where that is below 1.
    Nothing waits for the device.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    norms = torch.stack(torch._foreach_norm(gradients))
    total: Tensor = torch.linalg.vector_norm(norms)
    limited = norms if mode == "per_tensor" else total.expand_as(norms)
    torch._foreach_mul_(gradients, (max_norm / (limited + 1e-6)).clamp(max=1.0).unbind())
    return total


def clip_per_tensor_(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Clip each gradient by its own norm (Caron et al. 2021), in place; return the global norm before clipping."""
    return clip_gradients_(parameters, max_norm, "per_tensor")
