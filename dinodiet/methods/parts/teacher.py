"""The teacher: a copy of the student whose parameters follow it as an exponential moving average."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from dinodiet.config.ranges import Fraction
from dinodiet.methods.parts import dino_defaults
from dinodiet.schedules import Scalar, at
from dinodiet.types import Clock, DataSpec


class Teacher(nn.Module):
    """A student's backbone and head as they were, moved a little towards the student after every step.

    `momentum` (None: by the number of images) is the part of itself that the teacher keeps in a step.
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, spec: DataSpec, *, momentum: Fraction[Scalar | None] = None
    ) -> None:
        super().__init__()
        self.backbone, self.head = teacher_of(backbone), teacher_of(head)
        self.momentum = momentum if momentum is not None else dino_defaults.momentum(spec.num_images)

    def follow(self, backbone: nn.Module, head: nn.Module, clock: Clock) -> None:
        """Move towards the student as it is now: its parameters, not its buffers."""
        student = itertools.chain(backbone.parameters(), head.parameters())
        update_ema_(self.parameters(), student, at(self.momentum, clock))


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
