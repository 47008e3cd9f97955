"""Supervised training: a classifier of labels on the backbone, and as much of the backbone as is to be trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from torch import Tensor, nn

from dinodiet.errors import UserError
from dinodiet.features.trunk_cache import TrunkCache
from dinodiet.methods.one_view import OneViewMethod, Source
from dinodiet.methods.parts.classifier import Classifier, label_loss
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mix
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Views


class Supervised(OneViewMethod):
    """Cross-entropy between a classifier's logits and the labels of the training images; of several labels binary.

    With `trainable` head_only it is a probe by stochastic gradients, else fine-tuning, or training from scratch.

    Args:
        backbone: the module to train.
        spec: facts about the data.
        views: the augmentation, from `input`, the backbone's specification of its input.
        trainable: what of the backbone is trained, see `dinodiet.backbones.freeze`.
        head: the logits of the labels, from `in_dim` and `spec`.
        loss: of logits and classes; None: cross-entropy without smoothing.
        mix: mixes the views of a batch; None: nothing is mixed.
        trunk: as in `dinodiet.methods.diet.DIET`; with head_only and views of strength 0 every image is embedded once.

    Raises:
        UserError: the images have no labels, a value is out of range, or two parts exclude each other.
    """

    split: Literal["pretext", "train"] = "train"

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        *,
        views: Callable[..., Views],
        trainable: str = "all",
        head: Callable[..., Classifier] = Classifier,
        loss: CrossEntropy | None = None,
        mix: Mix | None = None,
        trunk: Callable[..., TrunkCache | None] | None = None,
    ) -> None:
        if not spec.labelled:
            raise UserError(
                f"method: supervised training needs labels, and {spec.name} has none; choose another method"
            )
        classifier = head(in_dim=backbone.embed_dim, spec=spec)
        super().__init__(
            backbone,
            Source(views, mix, trunk),
            trainable=trainable,
            warmup_fraction=classifier.warmup_fraction,
            head_lr_scale=classifier.lr_scale,
        )
        self.head, self.loss = classifier, loss or CrossEntropy(label_smoothing=0.0)
        self._guess = math.log(2 if spec.multilabel else spec.num_labels)

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return `loss` and, of one label an image, `train_accuracy`, on the augmented and mixed views."""
        assert batch.label is not None
        mixed, embeddings = self.embedded(batch, clock)
        logits = self.head(embeddings)
        self._keep(len(batch), {"student/embeddings": embeddings, "student/logits": logits})
        logs = {"loss": label_loss(logits, batch.label, mixed, self.loss)}
        if batch.label.ndim == 1:
            logs["train_accuracy"] = (logits.detach().argmax(dim=1) == batch.label).float().mean()
        return logs

    def logits(self, images: Tensor) -> Tensor:
        """Return the classifier's logits (B, labels)."""
        logits: Tensor = self.head(self.encoder(images))
        return logits

    def networks(self) -> dict[str, dict[str, nn.Module]]:
        """Return backbone and classifier."""
        return {"student": {"encoder": self.backbone, "head": self.head}}

    def readout(self, role: str, embeddings: Tensor, clock: Clock) -> dict[str, Tensor]:
        """Return the classifier's logits."""
        return {"logits": self.head(embeddings)}

    def guessing(self) -> dict[str, float]:
        """Return the loss of a uniform prediction, with label smoothing and mixing too."""
        return {"loss": self._guess}
