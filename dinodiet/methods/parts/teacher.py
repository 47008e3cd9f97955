"""The teacher: a copy of the student that follows it, as an exponential moving average if not told otherwise."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Literal

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from dinodiet.config.ranges import AtLeastOne, Fraction
from dinodiet.config.signature import Inlined
from dinodiet.errors import UserError
from dinodiet.methods.parts import dino_defaults
from dinodiet.methods.parts.starts import TeacherStart
from dinodiet.methods.parts.teacher_updates import Update, check_update, momentum_of
from dinodiet.processes.split import local
from dinodiet.schedules import Scalar, at
from dinodiet.types import Clock, DataSpec


class Teacher(nn.Module):
    """A student's backbone and head as they were, which follow it, or not.

    Args:
        backbone: the student's.
        head: the student's.
        spec: facts about the data.
        momentum: of `update` ema: the part of itself that the teacher keeps in a step; None: by the number of images.
        update: ema: a little towards the student after every step; epoch: the student as it is after every
            `every_epochs` epochs; none: the teacher stays as it is.
        every_epochs: of `update` epoch.
        mode: train: its BatchNorms work with statistics of the batch, and keep their own; eval: they work with the
            running ones, which do not move by themselves.
        batchnorm: whose running statistics they are, of the `teacher` or followed from the `student`.
        start: what it begins with.

    Raises:
        UserError: settings exclude each other.
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        spec: DataSpec,
        *,
        momentum: Fraction[Scalar | None] = None,
        update: Update = "ema",
        every_epochs: AtLeastOne[int] = 1,
        mode: Literal["train", "eval"] = "train",
        batchnorm: Literal["teacher", "student"] = "teacher",
        start: Inlined[Callable[..., TeacherStart]] = TeacherStart,
    ) -> None:
        super().__init__()
        check_update(update, momentum, every_epochs)
        _check_batchnorm(update, mode, batchnorm)
        self.backbone, self.head = teacher_of(backbone), teacher_of(head)
        self.update, self.mode, self.start = update, mode, start()
        chosen = momentum if momentum is not None else dino_defaults.momentum(spec.num_images)
        self.momentum = momentum_of(update, chosen, every_epochs)
        self._followed = _with_statistics if batchnorm == "student" else _parameters
        if mode == "eval":
            self.eval()

    def train(self, mode: bool = True) -> Teacher:
        """Set the training mode, which a teacher in evaluation mode does not follow."""
        super().train(mode and self.mode == "train")
        return self

    def follow(self, backbone: nn.Module, head: nn.Module, clock: Clock) -> None:
        """Move towards the student as it is now: its parameters, and its running statistics where they are followed."""
        momentum = at(self.momentum, clock)
        if momentum < 1:
            update_ema_(self._followed(self.backbone, self.head), self._followed(backbone, head), momentum)


def _parameters(backbone: nn.Module, head: nn.Module) -> list[Tensor]:
    return [*backbone.parameters(), *head.parameters()]


def _with_statistics(backbone: nn.Module, head: nn.Module) -> list[Tensor]:
    modules = (module for part in (backbone, head) for module in part.modules())
    tracked = [module for module in modules if isinstance(module, _BatchNorm) and module.running_mean is not None]
    statistics = [buffer for module in tracked for buffer in (module.running_mean, module.running_var)]
    return [*_parameters(backbone, head), *(buffer for buffer in statistics if buffer is not None)]


def _check_batchnorm(update: Update, mode: str, batchnorm: str) -> None:
    if batchnorm == "student" and mode == "train":
        raise UserError(
            "teacher.batchnorm: student needs teacher.mode=eval: in training mode a batch's own statistics are used"
        )
    if batchnorm == "student" and update == "none":
        raise UserError("teacher.batchnorm: student follows the student, and teacher.update is none; choose teacher")


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
    torch._foreach_lerp_([*map(local, teacher)], [*map(local, student)], 1 - momentum)
