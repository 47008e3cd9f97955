"""DIET: every image is its own class (Balestriero 2023, arXiv:2302.10260; DIET-CP: Rodas 2025, arXiv:2509.06990)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.backbones.freeze import first_trained
from dinodiet.backbones.split import Split
from dinodiet.errors import UserError
from dinodiet.features.trunk_cache import Stored, TrunkCache
from dinodiet.methods.base import Method
from dinodiet.methods.parts.cross_entropy import Classified
from dinodiet.methods.parts.diagnostics import effective_rank
from dinodiet.methods.parts.mix import Mix, Mixed
from dinodiet.methods.parts.param_groups import weight_decay_groups
from dinodiet.schedules import Scalar, at
from dinodiet.types import Backbone, Batch, Clock, DataSpec, Images, ParamGroup, Views


class DIET(Method):
    """Cross-entropy of a bias-free linear head on the L2-normalised embedding, with the image's index as its class.

    Args:
        backbone: the module to train.
        spec: facts about the data; the head has one class per image of the pretext split.
        views: builds the augmentation, called with `input=backbone.input`.
        trainable: all | head_only | last_<n>_blocks of the backbone.
        head_only_fraction: first part of the steps in which the backbone waits frozen.
        targets: `index`, or `random` classes, `num_classes` of them, drawn once from `target_seed`.
        label_smoothing: in [0, 1); kept under MixUp and CutMix.
        logit_scale: factor on the logits (an inverse temperature).
        head_lr_scale: the heads' learning rate over the backbone's.
        projection_dim: None, or the width of a two-layer projector between the embedding and the head.
        probe_weight: weight of a second head trained on the labels beside the first ("dual head"), a number or a
            schedule; the DIET loss has the rest, 1 - probe_weight. 0: no such head.
        mixup_alpha, cutmix_alpha: parameters of the Beta distribution; 0 is off.
        trunk_cache: 0, or a number of views of each image that the frozen part of the backbone sees once, before the
            training, which then draws from them (`trunk_cache.TrunkCache`). In trainings of at most as many epochs
            every view is new, as without; in longer ones views come back.
        trunk_cache_dtype: of what is kept.
        trunk_cache_seed: of these views.
        trunk_cache_noise: standard deviation of Gaussian noise on what is drawn, in units of its own.

    Raises:
        UserError: a value is out of range, or a probe is asked for where the images have no labels.
    """

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        *,
        views: Callable[..., Views],
        trainable: str = "last_2_blocks",
        head_only_fraction: float = 0.05,
        targets: Literal["index", "random"] = "index",
        num_classes: int | None = None,
        target_seed: int = 0,
        label_smoothing: float = 0.2,
        logit_scale: float = 1.0,
        head_lr_scale: float = 1.0,
        projection_dim: int | None = None,
        probe_weight: Scalar = 0.0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        trunk_cache: int = 0,
        trunk_cache_dtype: Stored = "bf16",
        trunk_cache_seed: int = 0,
        trunk_cache_noise: float = 0.0,
    ) -> None:
        super().__init__(backbone, trainable=trainable, head_only_fraction=head_only_fraction)
        if trunk_cache_noise < 0 or (trunk_cache_noise and not trunk_cache):
            raise UserError(f"trunk_cache_noise: {trunk_cache_noise}; must be at least 0, and 0 without a trunk_cache")
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing: {label_smoothing}; must be at least 0 and below 1")
        if projection_dim is not None and projection_dim < 1:
            raise UserError(f"projection_dim: {projection_dim}; must be at least 1, or null for no projector")
        self.views = views(input=backbone.input)
        self.mix = Mix(mixup_alpha, cutmix_alpha)
        self.label_smoothing, self.logit_scale, self.head_lr_scale = label_smoothing, logit_scale, head_lr_scale
        self.register_buffer("target_of_index", _targets(spec, targets, num_classes, target_seed), persistent=False)
        self.num_classes = num_classes if targets == "random" and num_classes is not None else spec.num_images
        self.projector = _projector(backbone.embed_dim, projection_dim)
        self.head = nn.Linear(projection_dim or backbone.embed_dim, self.num_classes, bias=False)
        self.probe_weight = probe_weight
        self.probe = _probe(backbone.embed_dim, spec, probe_weight)
        self.multilabel = spec.multilabel
        self.trunk: TrunkCache | None = None
        if _wants_cache(trunk_cache, trainable, mixup_alpha, cutmix_alpha):
            split = Split(backbone, first_trained(backbone, trainable))
            self.trunk = TrunkCache(
                split,
                self.views,
                num_views=trunk_cache,
                seed=trunk_cache_seed,
                stored=trunk_cache_dtype,
                noise=trunk_cache_noise,
            )
        self._last: Tensor | None = None

    target_of_index: Tensor

    @property
    def sees_pictures(self) -> bool:
        """Return whether the images of a batch are read: with a trunk cache they are not."""
        return self.trunk is None

    def prepare(
        self, images: Images, clock: Clock, *, folder: Path, device: torch.device, precision: str, num_workers: int
    ) -> None:
        """Fill the trunk cache, or find it in `folder`."""
        if self.trunk is not None:
            self.trunk.prepare(
                images, clock, folder=folder / "trunks", device=device, precision=precision, num_workers=num_workers
            )

    def loss(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return `loss`, `diet_loss`, `diet_accuracy` (of the index on the augmented view), and `probe_loss`."""
        mixed, embedding = self._seen(batch, clock)
        features = F.normalize(self.projector(embedding), dim=1)
        classified = Classified(
            features, self.head.weight, scale=self.logit_scale, label_smoothing=self.label_smoothing
        )
        target = self.target_of_index[batch.index]
        loss = diet_loss = mixed.loss(classified.loss, target)
        logs = {"diet_loss": diet_loss.detach(), "diet_accuracy": (classified.predicted() == target).float().mean()}
        if self.probe is not None:
            assert batch.label is not None
            probe_loss = mixed.loss(self._probe_criterion(self.probe(embedding).float()), batch.label)
            weight = at(self.probe_weight, clock)
            loss = (1 - weight) * diet_loss + weight * probe_loss
            logs["probe_loss"] = probe_loss.detach()
        self._last = embedding.detach()
        return {"loss": loss, **logs}

    def _seen(self, batch: Batch, clock: Clock) -> tuple[Mixed, Tensor]:
        """Return how a view of the batch was mixed, and its embedding."""
        if self.trunk is not None:
            hidden = self.trunk.draw(batch.index, clock)
            with self.phase(clock):
                return Mixed(hidden[0], batch.index, 1.0), self.trunk.rest(hidden)
        (images,) = self.views(batch.images, clock.generator("views"))
        mixed = self.mix(images, clock.generator("mix"))
        return mixed, self.embed(mixed.images, clock)

    def _probe_criterion(self, logits: Tensor) -> Callable[[Tensor], Tensor]:
        if self.multilabel:
            return lambda label: F.binary_cross_entropy_with_logits(logits, label.float())
        return functools.partial(F.cross_entropy, logits, label_smoothing=self.label_smoothing)

    def param_groups(self) -> list[ParamGroup]:
        """Return the backbone's groups and the heads' groups, which have their own learning rate."""
        named = [(name, p) for name, p in self.named_parameters() if not name.startswith("backbone.")]
        backbone = weight_decay_groups((n, p) for n, p in self.named_parameters() if n.startswith("backbone."))
        heads = weight_decay_groups(named)
        for group in backbone:
            group.name = f"backbone_{group.name}"
        for group in heads:
            group.name, group.lr_scale = f"head_{group.name}", self.head_lr_scale
        return backbone + heads

    def diagnostics(self) -> dict[str, float]:
        """Return the effective rank of the last batch's embeddings; a fall towards 1 is collapse."""
        return {} if self._last is None else {"effective_rank": effective_rank(self._last)}

    def describe(self) -> dict[str, Any]:
        """Return the number of DIET classes, and of views in the trunk cache."""
        cached = {} if self.trunk is None else {"trunk_cache": f"{self.trunk.num_views} views"}
        return {"diet_classes": self.num_classes, **cached}


def _wants_cache(num_views: int, trainable: str, mixup_alpha: float, cutmix_alpha: float) -> bool:
    if num_views < 0:
        raise UserError(f"trunk_cache: {num_views}; must be at least 0 (0: off)")
    if num_views and trainable == "all":
        raise UserError(
            f"trunk_cache: {num_views}, but with trainable=all nothing is frozen; choose trainable from: head_only, "
            "last_<n>_blocks, or set trunk_cache=0"
        )
    if num_views and (mixup_alpha or cutmix_alpha):
        key = "mixup_alpha" if mixup_alpha else "cutmix_alpha"
        raise UserError(f"trunk_cache: {num_views}, but {key} mixes pictures, which are not there then; set one to 0")
    return num_views > 0


def _targets(spec: DataSpec, targets: str, num_classes: int | None, seed: int) -> Tensor:
    if targets == "index":
        if num_classes is not None:
            raise UserError(f"num_classes: {num_classes}; only targets=random has it (index: one class per image)")
        return torch.arange(spec.num_images)
    if num_classes is None or num_classes < 2:
        raise UserError(f"num_classes: {num_classes}; targets=random needs a number of classes of at least 2")
    generator = Clock(0, 0, 1, seed=seed).generator("diet_targets")
    return torch.randint(num_classes, (spec.num_images,), generator=generator)


def _projector(embed_dim: int, projection_dim: int | None) -> nn.Module:
    if projection_dim is None:
        return nn.Identity()
    return nn.Sequential(nn.Linear(embed_dim, embed_dim), nn.GELU(), nn.Linear(embed_dim, projection_dim))


def _probe(embed_dim: int, spec: DataSpec, weight: Scalar) -> nn.Linear | None:
    if not callable(weight):
        if not 0 <= weight <= 1:
            raise UserError(f"probe_weight: {weight}; must be from 0 (no probe) to 1 (labels alone)")
        if weight == 0:
            return None
    if not spec.pretext_labelled:
        raise UserError(f"probe_weight: {spec.name} trains on images without labels; set probe_weight=0")
    return nn.Linear(embed_dim, spec.num_labels)
