"""Losses: smoothed cross-entropy with classes, and the distillation of a teacher's predictions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.ranges import BelowOne, Fraction, Temperature
from dinodiet.errors import UserError
from dinodiet.methods.parts import dino_defaults
from dinodiet.methods.parts.centring import Centre, Centred, Centring
from dinodiet.methods.parts.comparisons import COMPARISONS, Kind, Targets
from dinodiet.methods.parts.cross_entropy import ClassLogits
from dinodiet.methods.parts.diagnostics import entropy
from dinodiet.methods.parts.label_targets import GivenTargets
from dinodiet.methods.parts.pairs import Pairing, Pairs
from dinodiet.processes.gathering import averaged
from dinodiet.schedules import Scalar, at
from dinodiet.types import Batch, Clock, DataSpec


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

    Args:
        out_dim: number of prototypes.
        spec: facts about the data.
        student_temp: of the student's softmax.
        teacher_temp: of the teacher's; None: by the number of images (`dino_defaults`).
        center_momentum: of the teacher's centre; None: the teacher is not centred.
        centring: sinkhorn: the teacher's predictions of a batch use all prototypes equally, as in DINOv2.
        kind: cross-entropy, KL divergence, squared distance of logits, or the entropy of the student alone
            (`comparisons`).
        pairs: the views that are compared (`pairs`).
        student_center_momentum: of a centre of the student's logits; None: the student is not centred.
        targets: in place of the teacher's predictions, from `out_dim` and `spec` (`label_targets`).

    Raises:
        UserError: settings exclude each other.
    """

    def __init__(
        self,
        out_dim: int,
        spec: DataSpec,
        *,
        student_temp: Temperature[Scalar] = 0.1,
        teacher_temp: Temperature[Scalar | None] = None,
        center_momentum: Fraction[Scalar | None] = 0.9,
        centring: Centring = "mean",
        kind: Kind = "ce",
        pairs: Pairing = "opposite",
        student_center_momentum: Fraction[Scalar | None] = None,
        targets: Callable[..., GivenTargets] | None = None,
    ) -> None:
        chosen = teacher_temp if teacher_temp is not None else dino_defaults.teacher_temp(spec.num_images)
        super().__init__(out_dim, teacher_temp=chosen, center_momentum=center_momentum, centring=centring)
        self.student_temp, self.kind, self.pairs = student_temp, kind, pairs
        self.student_centre = None
        if student_center_momentum is not None:
            self.student_centre = Centre(out_dim, momentum=student_center_momentum)
        self.given = targets(out_dim=out_dim, spec=spec) if targets is not None else None
        self._check()

    def _check(self) -> None:
        if self.kind == "mse" and self.centring == "sinkhorn":
            raise UserError("centring: sinkhorn makes probabilities, and kind mse compares logits; choose mean")
        if self.kind == "entropy" and self.given is not None:
            raise UserError("kind: entropy looks at no targets, and targets is set; choose ce, kl or mse, or null")

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        *,
        num_global: int,
        clock: Clock,
        batch: Batch | None = None,
    ) -> dict[str, Tensor]:
        """Return the mean `loss` over all pairs of a teacher's and a student's view, in float32.

        `student_logits` (views x B, out_dim) and `teacher_logits` (num_global x B, out_dim) are ordered by view, global
        views first; given targets need the `batch`. Logged beside it is what `_told` and `_accuracy` say.
        """
        predictions = self.predictions(student_logits, clock).view(-1, *self._shape(teacher_logits, num_global))
        pairs = Pairs(self.pairs, num_global, len(predictions))
        targets = self._targets(teacher_logits, num_global, clock, batch)
        loss = COMPARISONS[self.kind](targets, predictions, pairs)
        self.see(teacher_logits, clock)
        if self.student_centre is not None:
            self.student_centre.see(student_logits, clock)
        told = self._told(loss.detach(), targets) if self.given is None else accuracy(predictions, batch)
        return {"loss": loss, **told}

    def predictions(self, logits: Tensor, clock: Clock) -> Tensor:
        """Return the student's logits, centred where it has a centre, divided by its temperature, in float32."""
        logits = logits.float()
        centred = logits if self.student_centre is None else logits - self.student_centre.center
        return centred / at(self.student_temp, clock)

    @staticmethod
    def _shape(logits: Tensor, num_global: int) -> tuple[int, int]:
        return len(logits) // num_global, logits.shape[-1]

    def _targets(self, logits: Tensor, num_global: int, clock: Clock, batch: Batch | None) -> Targets:
        """Return the targets (num_global, B, out_dim): the teacher's predictions, or those that are given."""
        if self.given is not None:
            assert batch is not None
            given, views = self.given(batch, clock), (num_global, -1, -1)
            return Targets(given.logits.expand(views), given.probabilities.expand(views))
        shape = num_global, -1, logits.shape[-1]
        centred = self.logits(logits.detach().float(), clock)
        return Targets(centred.view(shape), self.probabilities(centred).view(shape))

    def _told(self, loss: Tensor, targets: Targets) -> dict[str, Tensor]:
        """Return what tells kinds of collapse apart.

        `teacher_entropy` is that of one prediction, in nats; log(out_dim) means uniform. `marginal_entropy` is that of
        the mean prediction; 0 means that every image falls on one prototype. `kl`, teacher to student, is the
        cross-entropy without the teacher's.
        """
        one = targets.entropy()
        kl = {"ce": {"kl": loss - one}, "kl": {"kl": loss}}.get(self.kind, {})
        return {"teacher_entropy": one, **kl, "marginal_entropy": entropy(averaged(targets.probabilities.mean((0, 1))))}

    def scaled(self, role: str, projections: Tensor, clock: Clock) -> Tensor:
        """Return the logits of the student or the teacher, whose softmax is its prediction.

        Sinkhorn-Knopp centres predictions, and no logits: the teacher's are then only divided by its temperature.
        """
        if role == "student":
            return self.predictions(projections, clock)
        return self.logits(projections.float(), clock)

    def hyperparameters(self, clock: Clock) -> dict[str, float]:
        """Return temperatures, the momenta of the centres that there are, and norm and mean of the teacher's."""
        temperatures = {"student_temp": at(self.student_temp, clock), "teacher_temp": at(self.teacher_temp, clock)}
        student = None if self.student_centre is None else self.student_centre.center_momentum
        momenta = {"center_momentum": self.center_momentum, "student_center_momentum": student}
        moving = {name: at(value, clock) for name, value in momenta.items() if value is not None}
        centre = {"center_norm": self.center.norm().item(), "center_mean": self.center.mean().item()}
        return {**temperatures, **moving, **centre}

    def update_centers(self, clock: Clock) -> None:
        """Move the centres of teacher and student."""
        self.update_center(clock)
        if self.student_centre is not None:
            self.student_centre.update_center(clock)

    def guessing(self, name: str) -> dict[str, float]:
        """Return log(out_dim), the cross-entropy of a student or teacher that tells no images apart, by a name."""
        return {name: math.log(self.center.shape[1])} if self.kind == "ce" else {}


def accuracy(predictions: Tensor, batch: Batch | None) -> dict[str, Tensor]:
    """Return `train_accuracy`: of the mean over views of the probabilities (views, B, labels), against the labels."""
    if batch is None or batch.label is None or batch.label.ndim != 1:
        return {}
    chosen = predictions.detach().softmax(-1).mean(0).argmax(-1)
    return {"train_accuracy": (chosen == batch.label).float().mean()}
