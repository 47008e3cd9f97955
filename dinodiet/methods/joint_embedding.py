"""What methods share that compare projected views of an image by one network, without a teacher: SimCLR, LeJEPA."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from dinodiet.methods.base import MethodBase
from dinodiet.methods.parts.check_views import check_views
from dinodiet.methods.parts.diagnostics import effective_rank
from dinodiet.methods.parts.embed_views import embed_views
from dinodiet.methods.parts.projector import Projector
from dinodiet.methods.parts.shown import named
from dinodiet.types import Backbone, Batch, Clock, Images, ShownView, Views


class JointEmbedding(MethodBase):
    """A backbone and a projector that see all views of an image; what is derived from it adds a loss.

    Args:
        backbone: the module to train.
        views: of each image, from `input`, the backbone's specification of its input.
        trainable: what of the backbone is trained, see `dinodiet.backbones.freeze`.
        head: the projector, from `in_dim`.

    Raises:
        UserError: a value is out of range, or the backbone cannot take the views.
    """

    def __init__(
        self, backbone: Backbone, *, views: Callable[..., Views], trainable: str, head: Callable[..., Projector]
    ) -> None:
        projector = head(in_dim=backbone.embed_dim)
        super().__init__(backbone, trainable=trainable, warmup_fraction=projector.warmup_fraction)
        self.views = views(input=backbone.input)
        check_views(self.views, backbone)
        self.head = projector
        self._last: Tensor | None = None

    def projections(self, batch: Batch, clock: Clock) -> Tensor:
        """Return the projections (views, B, D) of all views of a batch."""
        views = self.views(batch.images, clock.generator("views"))
        embeddings = embed_views(lambda images: self.embed(images, clock), views)
        self._last = embeddings[: len(batch)].detach()
        projections: Tensor = self.head(embeddings)
        self._keep(len(batch), {"student/embeddings": embeddings, "student/projections": projections})
        return projections.view(len(views), len(batch), -1)

    def shown_views(self, batch: Batch, clock: Clock, images: Images) -> list[ShownView]:
        """Return all views."""
        return named(self.views(batch.images, clock.generator("views")), self.views.num_global)

    def networks(self) -> dict[str, dict[str, nn.Module]]:
        """Return backbone and projector."""
        return {"student": {"encoder": self.backbone, "head": self.head}}

    def readout(self, role: str, embeddings: Tensor, clock: Clock) -> dict[str, Tensor]:
        """Return the projections."""
        return {"projections": self.head(embeddings)}

    @property
    def compares_images(self) -> bool:
        """Return True: the other images are negatives, or a sample of the same distribution."""
        return True

    @property
    def draft_side(self) -> int | None:
        """Return that of the views."""
        return self.views.draft_side

    def diagnostics(self) -> dict[str, float]:
        """Return the effective rank of the embeddings of the first view; a fall towards 1 is collapse."""
        return {} if self._last is None else {"effective_rank": effective_rank(self._last)}
