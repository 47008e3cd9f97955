"""The teacher: a copy of the student whose parameters follow it as an exponential moving average."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd


def teacher_of(student: nn.Module) -> nn.Module:
    """Return a copy that is not trained by gradients and drops nothing (dropout, drop path).

    It stays in training mode: its BatchNorms work with, and keep, statistics of their own.
    """
    teacher = copy.deepcopy(student).requires_grad_(False)
    for module in teacher.modules():
        # The rates, not the modes: attention reads its dropout's rate and is in training mode with the rest.
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
    return teacher


@torch.no_grad()
def update_ema_(teacher: Iterable[Tensor], student: Iterable[Tensor], momentum: float) -> None:
    """Set teacher = momentum x teacher + (1 - momentum) x student, in place; equal tensors stay exactly equal."""
    torch._foreach_lerp_(list(teacher), list(student), 1 - momentum)
