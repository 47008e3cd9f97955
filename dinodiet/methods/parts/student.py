"""The student: what is its own, beside the backbone and the head that it is made of."""

from __future__ import annotations

from typing import Any, Literal

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.config.ranges import BelowOne, Fraction, NonNegative, Seed
from dinodiet.config.signature import OfRun
from dinodiet.errors import UserError
from dinodiet.methods.parts.starts import Fresh, Network, Role, check_checkpoint, check_used, left_by, seed_of
from dinodiet.types import Origins

MIXED = ("interpolated", "neighbourhood")


class Student:
    """What of a student is not its teacher's: its drop path, and what it begins with.

    With W the teacher's value of a parameter and R a fresh one, the student begins at (1 - alpha) W + alpha R
    (interpolated) or W + epsilon R (neighbourhood), in every parameter of backbone and head, norms and biases too.
    Buffers, such as running statistics, are those of the fresh network. Preserving the variance divides by
    sqrt(alpha^2 + (1 - alpha)^2) or sqrt(1 + epsilon^2). That suits weights of mean 0, and inflates gains: those that
    are 1 in both become 1.414 at alpha 0.5. With `matrices`, parameters of one dimension are not divided. Gains of a
    head that are not trained stay as they are. The formulas are those of github.com/safelix/dinopl.

    Args:
        backbone: the student's, of which the drop path is set.
        drop_path: of the student alone; None: what the backbone has, else 0.1.
        init: teacher: as the teacher begins; random: fresh weights; checkpoint: those that a finished run left, with
            its head; interpolated, neighbourhood: see above.
        seed: of fresh weights; None: from the teacher's seed if it has one, else from the run's. With that of a random
            teacher the student is the same as it.
        checkpoint: of `init` checkpoint: the directory of that run.
        tower: of `init` checkpoint: the run's student or its teacher.
        alpha: of `init` interpolated.
        epsilon: of `init` neighbourhood.
        variance_preserving: of these two: in all parameters, in matrices alone, or in none.

    Raises:
        UserError: `drop_path` is set for a backbone that has no residual blocks to drop, a setting is given that `init`
            does not use, or one is missing.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        drop_path: BelowOne[float | None] = None,
        init: Literal["teacher", "random", "checkpoint", "interpolated", "neighbourhood"] = "teacher",
        seed: Seed[int | None] = None,
        checkpoint: OfRun[str | None] = None,
        tower: Role = "student",
        alpha: Fraction[float] = 0.0,
        epsilon: NonNegative[float] = 0.0,
        variance_preserving: Literal["all", "matrices", "none"] = "none",
    ) -> None:
        check_used(init, "seed", seed is not None, ("random", *MIXED))
        check_used(init, "tower", tower != "student", ("checkpoint",))
        check_used(init, "alpha", alpha != 0, ("interpolated",))
        check_used(init, "epsilon", epsilon != 0, ("neighbourhood",))
        check_used(init, "variance_preserving", variance_preserving != "none", MIXED)
        check_checkpoint(init, checkpoint)
        self.drop_path = choose_drop_path(backbone, drop_path)
        self.init, self.seed, self.checkpoint, self.tower = init, seed, checkpoint, tower
        self.alpha, self.epsilon, self.variance_preserving = alpha, epsilon, variance_preserving

    def start(
        self, student: Network, teacher: Network, fresh: Fresh, origins: Origins, of_teacher: dict[str, Any]
    ) -> dict[str, Any]:
        """Give the student its weights; return what they are, nothing where they are the teacher's.

        `of_teacher` is what the teacher began with.

        Raises:
            UserError: the weights of a run cannot be read or do not fit.
        """
        if self.init == "teacher":
            if of_teacher:
                student.take(teacher.state(), "the teacher")
            return {}
        if self.checkpoint is not None:
            student.take(left_by(self.checkpoint, self.tower, origins), self.checkpoint)
            return {"init": self.init, "tower": self.tower, "parent": origins.parent(self.checkpoint)}
        seed = seed_of(of_teacher.get("seed", origins.seed), "student") if self.seed is None else self.seed
        drawn = fresh(seed).state()
        if self.init == "random":
            student.take(drawn, "random")
            return {"init": self.init, "seed": seed}
        fixed = {f"head.{name}" for name, value in student.head.named_parameters() if not value.requires_grad}
        for name, value in teacher.parameters().items():
            drawn[name] = value if name in fixed else self.mixed(value, drawn[name])
        student.take(drawn, self.init)
        how = {"alpha": self.alpha} if self.init == "interpolated" else {"epsilon": self.epsilon}
        return {"init": self.init, **how, "variance_preserving": self.variance_preserving, "seed": seed}

    @torch.no_grad()
    def mixed(self, teacher: Tensor, fresh: Tensor) -> Tensor:
        """Return what a parameter begins with, from the teacher's value and a fresh one."""
        if self.init == "interpolated":
            value, deviation = (1 - self.alpha) * teacher + self.alpha * fresh, (1 - self.alpha) ** 2 + self.alpha**2
        else:
            value, deviation = teacher + self.epsilon * fresh, 1 + self.epsilon**2
        divided = self.variance_preserving == "all" or (self.variance_preserving == "matrices" and teacher.ndim > 1)
        return value / deviation**0.5 if divided else value


def choose_drop_path(backbone: nn.Module, rate: float | None) -> float:
    """Set the student's drop path, and return its largest rate; None: what the backbone has, else 0.1 if it can."""
    if rate is None and (present := _drop_path_rate(backbone)) > 0:
        return present
    try:
        set_drop_path(backbone, 0.1 if rate is None else rate)
    except UserError:
        if rate is not None:
            raise
        return 0.0
    return _drop_path_rate(backbone)


def _drop_path_rate(backbone: nn.Module) -> float:
    return max((module.drop_prob for module in backbone.modules() if isinstance(module, DropPath)), default=0.0)
