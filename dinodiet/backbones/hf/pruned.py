"""A model without the parts that its embedding does not depend on: poolers, mask tokens, later layers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dinodiet.backbones.modes import eval_mode


class _Absent(nn.Module):
    """In the place of a removed part: passes on what it is given."""

    def forward(self, first: Any, *_: Any, **__: Any) -> Any:
        return first


def unused_parameters(module: nn.Module, side: int) -> list[str]:
    """Return the names of parameters without influence on the output for images of `side` pixels.

    A backward pass on the meta device tells: no values are needed.
    """
    buffers = {name: torch.empty_like(buffer, device="meta") for name, buffer in module.named_buffers()}
    values = {name: torch.empty_like(given, device="meta") for name, given in module.named_parameters()}
    floats = {name: value.requires_grad_() for name, value in values.items() if value.is_floating_point()}
    with eval_mode(module), torch.enable_grad(), torch.device("meta"):
        images = (torch.empty(1, 3, side, side),)
        found: Tensor = functional_call(module, {**values, **buffers}, images, tie_weights=False)
        grads = torch.autograd.grad(found.sum(), list(floats.values()), allow_unused=True)
    return [name for name, grad in zip(floats, grads, strict=True) if grad is None]


def remove(model: nn.Module, names: Collection[str]) -> None:
    """Remove parameters, and modules of which nothing is left, from a model."""
    for key, child in list(model.named_children()):
        inside = {name.removeprefix(f"{key}.") for name in names if name.startswith(f"{key}.")}
        own = {name for name, _ in child.named_parameters()}
        if own and own <= inside:
            setattr(model, key, _Absent())
        elif inside:
            remove(child, inside)
    for name in names:
        if name in model._parameters:
            model.register_parameter(name, None)
