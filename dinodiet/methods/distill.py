"""Distillation: a student learns the features of a frozen teacher (Romero et al. 2015; Hinton et al. 2015)."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from dinodiet.config.ranges import NonNegative
from dinodiet.errors import UserError
from dinodiet.methods.one_view import Source
from dinodiet.methods.parts.classifier import Classifier, label_loss
from dinodiet.methods.parts.feature_loss import FeatureLoss
from dinodiet.methods.parts.frozen_teacher import FrozenTeacher
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.matching import Matching
from dinodiet.methods.parts.mix import Mix
from dinodiet.methods.taught import Taught
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Views


class Distill(Taught):
    """Loss of the student's features to those of a teacher of the same view, plus, with labels, of a classifier.

    Both see the same crops and mixtures (Beyer et al. 2022, arXiv:2106.05237, "consistent" teaching). The teacher is no
    part of the state: it comes from its weights again. What its classifier says plays no role here;
    see `distill_logits`.

    Args:
        backbone: the student's, trained in place.
        spec: facts about the data.
        views: the augmentation, from `input`, the student's specification of its input.
        teacher: from `spec`.
        trainable: all | head_only | last_<n>_blocks of the student.
        match: brings both features to one width, from `student_dim` and `teacher_dim`.
        loss: of the features.
        head: the classifier of the labels, from `in_dim` and `spec`; used with a `label_weight` alone.
        label_weight: of the cross-entropy of the labels, beside the 1 of the features; 0: no labels are used, and the
            training sees the pretext split.
        mix: mixes the views of a batch; None: nothing is mixed.

    Raises:
        UserError: there is a `label_weight` and the images have no labels, or a part refuses its settings.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        *,
        views: Callable[..., Views],
        teacher: Callable[..., FrozenTeacher],
        trainable: str = "all",
        match: Callable[..., Matching] = Matching,
        loss: FeatureLoss | None = None,
        head: Callable[..., Classifier] = Classifier,
        label_weight: NonNegative[float] = 0.0,
        mix: Mix | None = None,
    ) -> None:
        if label_weight and not spec.labelled:
            raise UserError(f"label_weight: {label_weight:g}, but {spec.name} has no labels; set it to 0")
        classifier = head(in_dim=backbone.embed_dim, spec=spec) if label_weight else None
        super().__init__(
            backbone,
            Source(views, mix),
            trainable=trainable,
            teacher=functools.partial(teacher, spec=spec),
            classifier=classifier,
        )
        self.split = "train" if classifier else "pretext"
        self.loss, self.label_weight = loss or FeatureLoss(), label_weight
        self.match = match(student_dim=backbone.embed_dim, teacher_dim=self.teacher.embed_dim)
        self._guess = math.log(2 if spec.multilabel else spec.num_labels) if classifier else None

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return `loss`, its part `feature_loss`, and with labels `label_loss` and `train_accuracy`."""
        mixed = self.mixed_view(batch, clock)
        taught = self.taught(batch, mixed.images, clock)  # before the student's activations take memory
        embeddings = self.embed(mixed.images, clock)
        self._last = embeddings.detach()
        self._keep(len(batch), {"student/embeddings": embeddings, "teacher/embeddings": taught})
        student, wanted = self.match(embeddings, taught)
        feature_loss = self.loss(student, wanted, clock)
        logs = {"loss": feature_loss, "feature_loss": feature_loss.detach()}
        if self.head is not None:
            assert batch.label is not None
            logits = self.head(embeddings)
            labelled = label_loss(logits, batch.label, mixed, CrossEntropy(label_smoothing=0.0))
            logs |= {"loss": feature_loss + self.label_weight * labelled, "label_loss": labelled.detach()}
            if batch.label.ndim == 1:
                logs["train_accuracy"] = (logits.detach().argmax(dim=1) == batch.label).float().mean()
        return logs

    def logits(self, images: Tensor) -> Tensor | None:
        """Return the classifier's logits (B, labels); None without labels."""
        return None if self.head is None else self.head(self.encoder(images))

    def guessing(self) -> dict[str, float]:
        """Return the loss of a classifier that predicts all labels alike."""
        return {} if self._guess is None else {"label_loss": self._guess}

    def describe(self) -> dict[str, Any]:
        """Return who teaches, and the width at which features are compared."""
        return {"teacher": str(self.teacher), "compared": f"{self.match.width} features"}
