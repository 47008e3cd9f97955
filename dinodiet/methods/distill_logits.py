"""Distillation of logits: a student learns what a teacher's classifier says (Hinton et al. 2015, arXiv:1503.02531)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from dinodiet.config.ranges import NonNegative
from dinodiet.errors import UserError
from dinodiet.methods.one_view import Source
from dinodiet.methods.parts.classifier import Classifier, label_loss
from dinodiet.methods.parts.feature_loss import FeatureLoss
from dinodiet.methods.parts.frozen_teacher import ClassifyingTeacher
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mix
from dinodiet.methods.taught import Taught
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Views


class DistillLogits(Taught):
    """Loss of the student's logits to those of a teacher of the same view, plus the cross-entropy of labels.

    The student has one classifier, of the teacher's classes, whose logits both parts of the loss see (section 2). Views
    and mixtures are those of `Distill`, and the teacher is no part of the state.

    Args:
        backbone: the student's, trained in place.
        spec: facts about the data.
        views: the augmentation, from `input`, the student's specification of its input.
        teacher: from `spec`.
        trainable: all | head_only | last_<n>_blocks of the student.
        head: the student's classifier, from `in_dim` and `spec`.
        loss: of the logits (B, classes), as `FeatureLoss` of features; its T^2 keeps both parts in proportion.
        label_weight: of the cross-entropy of the labels; 0: none are used, and the training sees the pretext split.
        mix: mixes the views of a batch; None: nothing is mixed.

    Raises:
        UserError: the teacher has no classifier, or one of other classes than the labels that are used.
    """

    head: Classifier
    teacher: ClassifyingTeacher

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        *,
        views: Callable[..., Views],
        teacher: Callable[..., ClassifyingTeacher],
        trainable: str = "all",
        head: Callable[..., Classifier] = Classifier,
        loss: FeatureLoss | None = None,
        label_weight: NonNegative[float] = 0.0,
        mix: Mix | None = None,
    ) -> None:
        known = teacher(spec=spec)
        same = known.classes == spec.num_labels and not spec.multilabel
        if label_weight and not same:
            raise UserError(
                f"label_weight: {label_weight:g}, but the teacher tells {known.classes} classes apart, and {spec.name} "
                f"has {_labels(spec)}; set it to 0"
            )
        classes = replace(spec, num_labels=known.classes, multilabel=False)
        super().__init__(
            backbone,
            Source(views, mix),
            trainable=trainable,
            teacher=lambda: known,
            classifier=head(in_dim=backbone.embed_dim, spec=classes),
        )
        self.split = "train" if label_weight else "pretext"
        self.loss, self.label_weight = loss or FeatureLoss(t_squared=True), label_weight
        self._scored = same

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return `loss`, its part `logit_loss`, how often both say the same, and with labels theirs."""
        mixed = self.mixed_view(batch, clock)
        taught = self.taught(batch, mixed.images, clock)
        wanted = self.teacher.logits(taught)
        embeddings = self.embed(mixed.images, clock)
        self._last = embeddings.detach()
        self._keep(len(batch), {"student/embeddings": embeddings, "teacher/embeddings": taught})
        logits = self.head(embeddings)
        loss = self.loss(logits, wanted, clock)
        said = logits.detach().argmax(dim=1)
        agreement = (said == wanted.argmax(dim=1)).float().mean()
        logs = {"loss": loss, "logit_loss": loss.detach(), "agreement": agreement}
        if self.label_weight:
            assert batch.label is not None
            labelled = label_loss(logits, batch.label, mixed, CrossEntropy(label_smoothing=0.0))
            logs |= {"loss": loss + self.label_weight * labelled, "label_loss": labelled.detach()}
            logs["train_accuracy"] = (said == batch.label).float().mean()
        return logs

    def logits(self, images: Tensor) -> Tensor | None:
        """Return the student's logits (B, labels); None where the teacher's classes are as many as no labels are."""
        return self.head(self.encoder(images)) if self._scored else None

    def guessing(self) -> dict[str, float]:
        """Return the loss of a student that predicts all labels alike."""
        return {"label_loss": math.log(self.teacher.classes)} if self.label_weight else {}

    def describe(self) -> dict[str, Any]:
        """Return who teaches."""
        return {"teacher": str(self.teacher)}


def _labels(spec: DataSpec) -> str:
    if not spec.labelled:
        return "no labels"
    return f"{spec.num_labels} {'labels, several an image' if spec.multilabel else 'classes'}"
