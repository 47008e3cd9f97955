"""SimCLR: two views of an image find each other among the views of all other images (Chen et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from dinodiet.methods.joint_embedding import JointEmbedding
from dinodiet.methods.parts.check_views import check_pairs
from dinodiet.methods.parts.contrastive import NTXent
from dinodiet.methods.parts.projector import Projector
from dinodiet.processes.gathering import size
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Views


class SimCLR(JointEmbedding):
    """A simple framework for contrastive learning of visual representations (arXiv:2002.05709).

    The other images of a batch are the negatives: a larger batch is another loss, and of an accumulated one each part
    stands for itself.

    Args:
        backbone: the module to train.
        spec: facts about the data.
        views: two of each image, from `input`, the backbone's specification of its input.
        trainable: what of the backbone is trained, see `dinodiet.backbones.freeze`.
        head: the projector, from `in_dim`.
        loss: of the projections; None: at temperature 0.5.

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
        loss: NTXent | None = None,
    ) -> None:
        super().__init__(backbone, views=views, trainable=trainable, head=head)
        check_pairs(self.views)
        self.loss = loss or NTXent()

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the loss and the mean cosine of the pairs of views."""
        return self.loss(self.projections(batch, clock), batch.index, clock)

    def guessing(self) -> dict[str, float]:
        """Return the loss where all projections are one."""
        return {} if self._last is None else {"loss": self.loss.guessing(len(self._last) * size())}
