"""DIET: every image is its own class (Balestriero 2023, arXiv:2302.10260; DIET-CP: Rodas 2025, arXiv:2509.06990)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from dinodiet.errors import UserError
from dinodiet.features.trunk_cache import TrunkCache
from dinodiet.methods.base import MethodBase
from dinodiet.methods.parts.check_views import check_views
from dinodiet.methods.parts.diagnostics import effective_rank
from dinodiet.methods.parts.heads import ClassHead
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mix, Mixed
from dinodiet.methods.parts.param_groups import weight_decay_groups
from dinodiet.methods.parts.probe import Probe
from dinodiet.methods.parts.targets import IndexTargets
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Images, ParamGroup, Runtime, Views


class DIET(MethodBase):
    """Cross-entropy of a bias-free linear head on the L2-normalised embedding, with the image's index as its class.

    The parts are callables that wait for what a run knows:

    Args:
        backbone: the module to train.
        spec: facts about the data.
        views: the augmentation, from `input`, the backbone's specification of its input.
        trainable: all | head_only | last_<n>_blocks of the backbone.
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
        super().__init__(backbone, trainable=trainable, warmup_fraction=class_head.warmup_fraction)
        self.views = views(input=backbone.input)
        check_views(self.views, backbone)
        self.mix = mix or Mix()
        self.targets, self.head, self.loss = target_of, class_head, loss or CrossEntropy()
        self.probe = probe(in_dim=backbone.embed_dim, spec=spec) if probe else None
        self.trunk = trunk(backbone=backbone, augment=self.views, trainable=trainable) if trunk else None
        if self.trunk is not None and self.mix.kinds:
            raise UserError(f"trunk: views are cached, but {self.mix.kinds[0]} mixes images, which are not there then")
        self._last: Tensor | None = None

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return `loss`, `diet_loss`, `diet_accuracy` (of the target on the augmented view), and `probe_loss`."""
        mixed, embeddings = self._embedded(batch, clock)
        target = self.targets(batch.index)
        logits = self.head(embeddings)
        loss = diet_loss = mixed.loss(lambda classes: self.loss(logits, classes), target)
        logs = {"diet_loss": diet_loss.detach(), "diet_accuracy": (logits.predicted() == target).float().mean()}
        if self.probe is not None:
            assert batch.label is not None
            probe_loss = self.probe.loss(embeddings, batch.label, mixed, self.loss)
            loss = self.probe.share(diet_loss, probe_loss, clock)
            logs["probe_loss"] = probe_loss.detach()
        self._last = embeddings.detach()
        return {"loss": loss, **logs}

    def _embedded(self, batch: Batch, clock: Clock) -> tuple[Mixed, Tensor]:
        """Return how a view of the batch was mixed, and its embeddings."""
        if self.trunk is not None:
            hidden = self.trunk.draw(batch.index, clock)
            with self.phase(clock):
                return Mixed(hidden[0], batch.index, 1.0), self.trunk.rest(hidden)
        (images,) = self.views(batch.images, clock.generator("views"))
        mixed = self.mix(images, clock.generator("mix"))
        return mixed, self.embed(mixed.images, clock)

    def logits(self, images: Tensor) -> Tensor | None:
        """Return the probe's logits; None without a probe."""
        return None if self.probe is None else self.probe(self.encoder(images))

    @property
    def reads_images(self) -> bool:
        """Return whether the images of a batch are read: with a trunk cache they are not."""
        return self.trunk is None

    @property
    def draft_side(self) -> int | None:
        """Return that of the views."""
        return self.views.draft_side

    def prepare(self, images: Images, clock: Clock, runtime: Runtime) -> None:
        """Fill the trunk cache, or find it in the runtime's cache."""
        if self.trunk is not None:
            self.trunk.prepare(images, clock, runtime)

    def param_groups(self) -> list[ParamGroup]:
        """Return the backbone's groups and the heads' groups, which have their own learning rate."""
        named = [(name, p) for name, p in self.named_parameters() if not name.startswith("backbone.")]
        backbone = weight_decay_groups((n, p) for n, p in self.named_parameters() if n.startswith("backbone."))
        heads = weight_decay_groups(named)
        for group in backbone:
            group.name = f"backbone_{group.name}"
        for group in heads:
            group.name, group.lr_scale = f"head_{group.name}", self.head.lr_scale
        return backbone + heads

    def guessing(self) -> dict[str, float]:
        """Return log(classes), the cross-entropy of a uniform prediction, with label smoothing and mixing too."""
        return {"diet_loss": math.log(self.targets.num_classes)}

    def diagnostics(self) -> dict[str, float]:
        """Return the effective rank of the last batch's embeddings; a fall towards 1 is collapse."""
        return {} if self._last is None else {"effective_rank": effective_rank(self._last)}

    def describe(self) -> dict[str, Any]:
        """Return the number of classes, and of views in the trunk cache."""
        cached = {} if self.trunk is None else {"trunk": f"{self.trunk.num_views} views"}
        return {"diet_classes": self.targets.num_classes, **cached}
