"""Methods whose student sees one view of each image, and a frozen teacher the same one."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from dinodiet.features.trunk_cache import TrunkCache
from dinodiet.methods.one_view import OneViewMethod, Source
from dinodiet.methods.parts.classifier import Classifier
from dinodiet.methods.parts.frozen_teacher import AssumedCache, FrozenTeacher
from dinodiet.types import Backbone, Batch, Clock, Images, Runtime


class Taught(OneViewMethod):
    """A student beside a teacher whose features of fixed views are computed once; what is derived adds a loss.

    `classifier` is what the student trains on top of its backbone; None: nothing. Other arguments as `MethodBase`.

    Raises:
        UserError: a part refuses its settings.
    """

    def __init__(
        self,
        backbone: Backbone,
        source: Source,
        *,
        trainable: str,
        teacher: Callable[[], FrozenTeacher],
        classifier: Classifier | None,
    ) -> None:
        super().__init__(
            backbone,
            source,
            trainable=trainable,
            warmup_fraction=classifier.warmup_fraction if classifier else 0.0,
            head_lr_scale=classifier.lr_scale if classifier else 1.0,
        )
        self.head = classifier
        self.teacher = teacher()
        fixed = self.views.fixed and not self.mix.kinds
        self.known: TrunkCache | AssumedCache | None = self.teacher.cache(self.views) if fixed else None

    def taught(self, batch: Batch, images: Tensor, clock: Clock) -> Tensor:
        """Return the teacher's features (B, teacher's width) of the images of a batch: known ones, where there are."""
        features: Tensor
        if self.known is not None and self.known.ready:
            (features,) = self.known.draw(batch.index, clock)
        else:
            features = self.teacher(images)
        return features

    def prepare(self, images: Images, clock: Clock, runtime: Runtime) -> None:
        """Compute the teacher's features of all images, or find them in the runtime's cache, where views are fixed."""
        if self.known is not None:
            self.known.prepare(images, clock, runtime)

    def towers(self) -> list[nn.Module]:
        """Return the student's backbone and the teacher's."""
        return [self.backbone, self.teacher.backbone]

    def networks(self) -> dict[str, dict[str, nn.Module]]:
        """Return the student's backbone, with the classifier where there is one, and the teacher, which resizes."""
        head = {} if self.head is None else {"head": self.head}
        return {"student": {"encoder": self.backbone, **head}, "teacher": {"encoder": self.teacher}}

    def assume_cached(self) -> list[nn.Module]:
        """Draw rows of the right width where features are known beforehand; return the teacher's backbone."""
        if self.known is None:
            return []
        self.known = AssumedCache(self.teacher.embed_dim)
        return [self.teacher.backbone]
