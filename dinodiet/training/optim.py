"""Gradient clipping, per tensor as DINO publishes it or by the global norm; torch's optimisers at their fastest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dinodiet.processes.gathering import summed
from dinodiet.processes.split import local

ClipMode = Literal["per_tensor", "global"]


@torch.no_grad()
def clip_gradients_(
    parameters: Iterable[nn.Parameter], max_norm: float, mode: ClipMode, shards: Collection[nn.Parameter] = ()
) -> Tensor:
    """Clip gradients in place and return their global norm before clipping; nothing waits for the device.

    The global mode is torch's, which also knows sharded gradients. Torch has no other; ours is the same arithmetic for
    each tensor: a factor max_norm / (norm + 1e-6) where that is below 1. `shards` are those parameters of which every
    process holds other rows: their norms are those of all rows, and all processes call it.
    """
    if mode == "global" and not shards:
        return torch.nn.utils.clip_grad_norm_(parameters, max_norm)
    own = set(map(id, shards))
    found = [(local(parameter.grad), id(parameter) in own) for parameter in parameters if parameter.grad is not None]
    if not found:
        return torch.zeros(())
    gradients = [gradient for gradient, _ in found]
    norms = torch.stack(torch._foreach_norm(gradients))
    if shards:
        norms = _of_all_rows(norms, [spread for _, spread in found])
    total: Tensor = torch.linalg.vector_norm(norms)
    limited = norms if mode == "per_tensor" else total.expand(len(norms))
    torch._foreach_mul_(gradients, (max_norm / (limited + 1e-6)).clamp(max=1.0).unbind())
    return total


def _of_all_rows(norms: Tensor, spread: list[bool]) -> Tensor:
    """Return norms, of which those of spread tensors are over the rows of all processes."""
    here = torch.tensor(spread, device=norms.device)
    return torch.where(here, summed(norms.square()).sqrt(), norms)


def clip_per_tensor_(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Clip each gradient by its own norm (Caron et al. 2021), in place; return the global norm before clipping."""
    return clip_gradients_(parameters, max_norm, "per_tensor")


def build_fused(make: Callable[..., Optimizer], groups: list[dict[str, Any]]) -> Optimizer:
    """Return `make(params=groups)`, of torch's kernels that update all tensors in one pass where it has them.

    These agree with the loop over tensors to rounding. Who sets `fused` or `foreach` gets what is set; optimisers from
    elsewhere (timm) are as they are. SGD is not fused: with momentum that fails where a parameter's first gradient
    comes after those of others, as of a layer that is frozen at first.
    """
    optimizer = make(params=[dict(group) for group in groups])
    settings = optimizer.defaults
    if "fused" in settings and settings["fused"] is None and settings.get("foreach") is None:
        return make(params=groups, **({"foreach": True} if isinstance(optimizer, torch.optim.SGD) else {"fused": True}))
    return optimizer


def moves_rows_apart(make: Callable[..., Optimizer]) -> bool:
    """Return whether an optimiser moves each row of a weight by that row's gradients alone; tried on a small weight.

    Those that look at norms of whole weights (LARS), means (Adafactor) or directions (Muon) do not, and cannot train
    a weight whose rows are spread over processes.
    """
    drawn = torch.Generator().manual_seed(0)
    whole, *gradients = torch.randn(3, 48, 16, generator=drawn)  # Muon leaves thinner ones to AdamW
    halves = slice(16), slice(16, None)
    apart = torch.cat([_moved(make, whole[half], [gradient[half] for gradient in gradients]) for half in halves])
    return torch.allclose(apart, _moved(make, whole, gradients), rtol=1e-5, atol=1e-6)


def _moved(make: Callable[..., Optimizer], weight: Tensor, gradients: list[Tensor]) -> Tensor:
    """Return a weight after a step with each gradient, at a rate and a decay that show."""
    parameter = nn.Parameter(weight.clone())
    optimizer = make(params=[{"params": [parameter]}])
    optimizer.param_groups[0].update(lr=0.1, weight_decay=0.1)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    return parameter.detach()
