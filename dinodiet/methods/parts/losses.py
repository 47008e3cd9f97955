"""Losses: smoothed cross-entropy with classes, and the distillation of a teacher's predictions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.ranges import BelowOne, Fraction, Temperature
from dinodiet.methods.parts import dino_defaults
from dinodiet.methods.parts.centring import Centred, Centring
from dinodiet.methods.parts.cross_entropy import ClassLogits
from dinodiet.methods.parts.diagnostics import entropy
from dinodiet.schedules import Scalar, at
from dinodiet.types import Clock, DataSpec


class CrossEntropy:
    """Cross-entropy with label smoothing (Szegedy et al. 2016, arXiv:1512.00567)."""

    def __init__(self, *, label_smoothing: BelowOne[float] = 0.2) -> None:
        self.label_smoothing = label_smoothing

    def __call__(self, logits: ClassLogits | Tensor, target: Tensor) -> Tensor:
        """Return the mean loss of logits (B, classes) and classes int64 (B,)."""
        if isinstance(logits, ClassLogits):
            return logits.cross_entropy(target, label_smoothing=self.label_smoothing)
        return F.cross_entropy(logits, target, label_smoothing=self.label_smoothing)


class Distillation(Centred):
    """DINO's loss: cross-entropy between views, with a centred and sharpened teacher (Caron et al. 2021, section 3.1).

    `teacher_temp` None: by the number of images (`dino_defaults`). With `centring` sinkhorn the teacher's predictions
    of a batch use all prototypes equally instead of being centred, as in DINOv2.
    """

    def __init__(
        self,
        out_dim: int,
        spec: DataSpec,
        *,
        student_temp: Temperature[Scalar] = 0.1,
        teacher_temp: Temperature[Scalar | None] = None,
        center_momentum: Fraction[float] = 0.9,
        centring: Centring = "mean",
    ) -> None:
        chosen = teacher_temp if teacher_temp is not None else dino_defaults.teacher_temp(spec.num_images)
        super().__init__(out_dim, teacher_temp=chosen, center_momentum=center_momentum, centring=centring)
        self.student_temp = student_temp

    def forward(
        self, student_logits: Tensor, teacher_logits: Tensor, *, num_global: int, clock: Clock
    ) -> dict[str, Tensor]:
        """Return the mean `loss` over all pairs of a teacher's and another student's view, in float32.

        `student_logits` (views x B, out_dim) and `teacher_logits` (num_global x B, out_dim) are ordered by view, global
        views first. Logged beside it: `teacher_entropy` (of one prediction, in nats; log(out_dim) means uniform),
        `kl` (teacher to student: the loss without that entropy) and `marginal_entropy` (of the mean prediction; 0 means
        that every image falls on one prototype).
        """
        # A sum over student views replaces views x views products: a pair's term is linear in the student's log-probs.
        targets = self.targets(teacher_logits.detach().float(), clock)
        targets = targets.view(num_global, -1, targets.shape[-1])  # (global, B, out)
        student = F.log_softmax(student_logits.float() / at(self.student_temp, clock), dim=-1)
        student = student.view(-1, *targets.shape[1:])
        assert len(student) > 1, "a loss between views needs at least two of them"
        others = student.sum(0) - student[:num_global]  # a view is not compared with itself
        pairs = num_global * (len(student) - 1)
        loss = -(targets * others).sum() / (pairs * targets.shape[1])

        self.see(teacher_logits, clock)
        teacher_entropy = entropy(targets).mean()
        return {
            "loss": loss,
            "teacher_entropy": teacher_entropy,
            "kl": loss.detach() - teacher_entropy,
            "marginal_entropy": entropy(targets.mean((0, 1))),
        }

    def scaled(self, role: str, projections: Tensor, clock: Clock) -> Tensor:
        """Return the logits of the student or the teacher, whose softmax is its prediction.

        Sinkhorn-Knopp centres predictions, and no logits: the teacher's are then only divided by its temperature.
        """
        if role == "student":
            return projections.float() / at(self.student_temp, clock)
        centre = self.center if self.centring == "mean" else 0.0
        return (projections.float() - centre) / at(self.teacher_temp, clock)

    def hyperparameters(self, clock: Clock) -> dict[str, float]:
        """Return temperatures, the centre's momentum, and norm and mean of the centre."""
        temperatures = {"student_temp": at(self.student_temp, clock), "teacher_temp": at(self.teacher_temp, clock)}
        centre = {"center_norm": self.center.norm().item(), "center_mean": self.center.mean().item()}
        return {**temperatures, "center_momentum": self.center_momentum, **centre}
