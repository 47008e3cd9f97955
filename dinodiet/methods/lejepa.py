"""LeJEPA: views agree and projections are Gaussian; no teacher, no predictor (Balestriero and LeCun 2025)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dinodiet.methods.joint_embedding import JointEmbedding
from dinodiet.methods.parts.projector import Projector
from dinodiet.methods.parts.sigreg import LeJEPALoss
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Views


class LeJEPA(JointEmbedding):
    """Provable and scalable self-supervised learning without the heuristics (arXiv:2511.08544).

    The distribution is that of a batch: below about 64 images its signal is weak, and of an accumulated batch each part
    stands for itself.

    Args:
        backbone: the module to train.
        spec: facts about the data.
        views: of each image, from `input`, the backbone's specification of its input.
        trainable: what of the backbone is trained, see `dinodiet.backbones.freeze`.
        head: the projector, from `in_dim`.
        loss: of the projections; None: with the published settings.

    Raises:
        UserError: a value is out of range.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        *,
        views: Callable[..., Views],
        trainable: str = "all",
        head: Callable[..., Projector] = Projector,
        loss: LeJEPALoss | None = None,
    ) -> None:
        super().__init__(backbone, views=views, trainable=trainable, head=head)
        self.loss = loss or LeJEPALoss()

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the loss, its two parts, and the mean variance of the projections."""
        return self.loss(self.projections(batch, clock), self.views.num_global, clock)
