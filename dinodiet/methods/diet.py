"""DIET: every image is its own class (Balestriero 2023, arXiv:2302.10260; DIET-CP: Rodas 2025, arXiv:2509.06990)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from dinodiet.features.trunk_cache import TrunkCache
from dinodiet.methods.one_view import OneViewMethod, Source
from dinodiet.methods.parts.heads import ClassHead
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mix
from dinodiet.methods.parts.probe import Probe
from dinodiet.methods.parts.targets import IndexTargets
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Views


class DIET(OneViewMethod):
    """Cross-entropy of a bias-free linear head on the L2-normalised embedding, with the image's index as its class.

    The parts are callables that wait for what a run knows:

    Args:
        backbone: the module to train.
        spec: facts about the data.
        views: the augmentation, from `input`, the backbone's specification of its input.
        trainable: what of the backbone is trained, see `dinodiet.backbones.freeze`.
        targets: the class of each image, from `spec`.
        head: the logits of these classes, from `in_dim` and `num_classes`.
        loss: of logits and classes.
        mix: mixes the views of a batch; None: nothing is mixed.
        probe: a second head on the labels, from `in_dim` and `spec`; None, or one that returns None: there is none.
        trunk: what the frozen part of the backbone makes of views, computed once before the training, which then draws
            from it; from `backbone`, `augment` (the views) and `trainable`. None, or one that returns None: new views
            in every step, as published.

    Raises:
        UserError: a value is out of range, or two parts exclude each other.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        *,
        views: Callable[..., Views],
        trainable: str = "last_2_blocks",
        targets: Callable[..., IndexTargets] = IndexTargets,
        head: Callable[..., ClassHead] = ClassHead,
        loss: CrossEntropy | None = None,
        mix: Mix | None = None,
        probe: Callable[..., Probe | None] | None = None,
        trunk: Callable[..., TrunkCache | None] | None = None,
    ) -> None:
        target_of = targets(spec=spec)
        class_head = head(in_dim=backbone.embed_dim, num_classes=target_of.num_classes)
        super().__init__(
            backbone,
            Source(views, mix, trunk),
            trainable=trainable,
            warmup_fraction=class_head.warmup_fraction,
            head_lr_scale=class_head.lr_scale,
        )
        self.targets, self.head, self.loss = target_of, class_head, loss or CrossEntropy()
        self.probe = probe(in_dim=backbone.embed_dim, spec=spec) if probe else None

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return `loss`, `diet_loss`, `diet_accuracy` (of the target on the augmented view), and `probe_loss`."""
        mixed, embeddings = self.embedded(batch, clock)
        target = self.targets(batch.index)
        logits = self.head(embeddings)
        loss = diet_loss = mixed.loss(lambda classes: self.loss(logits, classes), target)
        logs = {"diet_loss": diet_loss.detach(), "diet_accuracy": (logits.predicted() == target).float().mean()}
        if self.probe is not None:
            assert batch.label is not None
            probe_loss = self.probe.loss(embeddings, batch.label, mixed, self.loss)
            loss = self.probe.share(diet_loss, probe_loss, clock)
            logs["probe_loss"] = probe_loss.detach()
        return {"loss": loss, **logs}

    def networks(self) -> dict[str, dict[str, nn.Module]]:
        """Return backbone and head; its logits are those of all images, and are no features."""
        return {"student": {"encoder": self.backbone, "head": self.head}}

    def logits(self, images: Tensor) -> Tensor | None:
        """Return the probe's logits; None without a probe."""
        return None if self.probe is None else self.probe(self.encoder(images))

    def guessing(self) -> dict[str, float]:
        """Return log(classes), the cross-entropy of a uniform prediction, with label smoothing and mixing too."""
        return {"diet_loss": math.log(self.targets.num_classes)}

    def describe(self) -> dict[str, Any]:
        """Return the number of classes, and of views in the trunk cache."""
        cached = {} if self.trunk is None else {"trunk": f"{self.trunk.num_views} views"}
        return {"diet_classes": self.targets.num_classes, **cached}
