"""BYOL: one view predicts what a slow teacher makes of the other; nothing is told apart (Grill et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.methods.base import MethodBase
from dinodiet.methods.parts.check_views import check_pairs, check_views
from dinodiet.methods.parts.diagnostics import effective_rank, spread
from dinodiet.methods.parts.projector import Projector
from dinodiet.methods.parts.shown import named
from dinodiet.methods.parts.teacher import Teacher
from dinodiet.schedules import at
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Images, ShownView, Views


class BYOL(MethodBase):
    """Bootstrap your own latent (arXiv:2006.07733). The student's backbone is what is kept.

    Args:
        backbone: the student's, trained in place.
        spec: facts about the data.
        views: two of each image, from `input`, the backbone's specification of its input.
        trainable: what of the backbone is trained, see `dinodiet.backbones.freeze`.
        head: the projector of student and teacher, from `in_dim`.
        predictor: of the student alone, from `in_dim` and `out_dim`, both the width of the projections.
        teacher: follows the student, from `backbone`, `head` and `spec`.
        joint: both views are one batch to every BatchNorm; published code has both, the paper False.

    Raises:
        UserError: a value is out of range, or there are not two views.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        *,
        views: Callable[..., Views],
        trainable: str = "all",
        head: Callable[..., Projector] = Projector,
        predictor: Callable[..., Projector] = Projector,
        teacher: Callable[..., Teacher] = Teacher,
        joint: bool = False,
    ) -> None:
        projector = head(in_dim=backbone.embed_dim)
        super().__init__(backbone, trainable=trainable, warmup_fraction=projector.warmup_fraction)
        self.views = views(input=backbone.input)
        check_views(self.views, backbone)
        check_pairs(self.views)
        self.head, self.joint = projector, joint
        self.predictor = predictor(in_dim=projector.out_dim, out_dim=projector.out_dim)
        self.teacher = teacher(backbone=self.backbone, head=self.head, spec=spec)
        self._last: tuple[Tensor, Tensor] | None = None

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the loss of both directions, in 0..8, and the mean cosine of a prediction and its target."""
        self.set_phase(clock)
        views = self.views(batch.images, clock.generator("views"))
        batches = [torch.cat(views)] if self.joint else views
        parts = zip(*(self._seen(images, clock) for images in batches), strict=True)
        embeddings, projections, predictions, taught, targets = (torch.cat(part) for part in parts)
        made = {"student/embeddings": embeddings, "student/projections": projections}
        self._keep(len(batch), {**made, "teacher/embeddings": taught, "teacher/projections": targets})
        self._last = embeddings[: len(batch)].detach(), projections[: len(batch)].detach()
        cosines = F.cosine_similarity(predictions.float(), targets.float().roll(len(batch), 0), dim=1)
        return {"loss": 4 - 4 * cosines.mean(), "cosine": cosines.detach().mean()}

    def _seen(self, images: Tensor, clock: Clock) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return the student's embeddings, projections, predictions, and the teacher's embeddings and projections."""
        embeddings = self.embed(images, clock)
        projections = self.head(embeddings)
        with torch.no_grad():
            taught = self.teacher.backbone(images)
            targets = self.teacher.head(taught)
        return embeddings, projections, self.predictor(projections), taught, targets

    def shown_views(self, batch: Batch, clock: Clock, images: Images) -> list[ShownView]:
        """Return both views, which student and teacher see."""
        return named(self.views(batch.images, clock.generator("views")), self.views.num_global, who=" (both)")

    def after_step(self, clock: Clock) -> None:
        """Move the teacher towards the student."""
        self.teacher.follow(self.backbone, self.head, clock)

    @property
    def draft_side(self) -> int | None:
        """Return that of the views."""
        return self.views.draft_side

    def towers(self) -> list[nn.Module]:
        """Return the student's backbone and the teacher's."""
        return [self.backbone, self.teacher.backbone]

    def networks(self) -> dict[str, dict[str, nn.Module]]:
        """Return backbone and projector of the student and of the teacher; the predictor has no counterpart."""
        teacher = {"encoder": self.teacher.backbone, "head": self.teacher.head}
        return {"student": {"encoder": self.backbone, "head": self.head}, "teacher": teacher}

    def readout(self, role: str, embeddings: Tensor, clock: Clock) -> dict[str, Tensor]:
        """Return the projections."""
        return {"projections": self.networks()[role]["head"](embeddings)}

    def hyperparameters(self, clock: Clock) -> dict[str, float]:
        """Return the teacher's momentum."""
        return {"teacher_momentum": at(self.teacher.momentum, clock)}

    def diagnostics(self) -> dict[str, float]:
        """Return the effective rank of the embeddings of the first view, and the spread of its projections."""
        if self._last is None:
            return {}
        embeddings, projections = self._last
        return {"effective_rank": effective_rank(embeddings), "projection_spread": spread(projections)}
