"""Defaults for the method contract (`dinodiet.types.Method`), and the waiting of a backbone while its head warms up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from dinodiet.backbones.freeze import set_trainable
from dinodiet.config.ranges import Fraction
from dinodiet.features.trunk_cache import TrunkCache
from dinodiet.methods.parts.class_rows import shards_in
from dinodiet.methods.parts.param_groups import weight_decay_groups
from dinodiet.processes.sharding import Shard
from dinodiet.types import Backbone, Batch, Clock, Images, Origins, ParamGroup, Runtime, ShownView


class MethodBase(nn.Module):
    """A backbone, what is trained on top of it, and the loss of a batch.

    `trainable` says which parts of the backbone are trained, see `dinodiet.backbones.freeze`. For the first
    `warmup_fraction` of the steps the head is trained alone, and the backbone waits frozen: random gradients from a
    fresh head would ruin pretrained weights. Frozen parts stay in evaluation mode and out of autograd.

    Raises:
        UserError: `trainable` is not one of the valid choices.
    """

    backbone: nn.Module
    split: Literal["pretext", "train"] = "pretext"
    trains: ClassVar[bool] = True
    evaluates_teacher: ClassVar[bool] = False
    trunk: TrunkCache | None = None  # from which views are drawn that went through the frozen blocks before

    def __init__(self, backbone: Backbone, *, trainable: str = "all", warmup_fraction: Fraction[float] = 0.0) -> None:
        super().__init__()
        assert isinstance(backbone, nn.Module)
        set_trainable(backbone, trainable)
        self.backbone = backbone
        self.warmup_fraction = warmup_fraction
        self._waiting = False
        self._kept: dict[str, Tensor] | None = None  # by a run that records features

    @property
    def encoder(self) -> nn.Module:
        """Return the module whose embeddings are evaluated."""
        return self.backbone

    @property
    def reads_images(self) -> bool:
        """Return whether training reads the images of a batch, and not only their labels and indices."""
        return True

    @property
    def draft_side(self) -> int | None:
        """Return the shorter side at which large JPEG files may be decoded for training; None: in full."""
        return None

    @property
    def steady(self) -> bool:
        """Return whether the same parameters have gradients in every part of every step."""
        return self.warmup_fraction == 0

    @property
    def compares_images(self) -> bool:
        """Return whether the loss of an image depends on the others of its batch, or of its part of one."""
        return False

    def towers(self) -> list[nn.Module]:
        """Return the backbones, the trained one first: what freezing, compiling, sharding and planning act on."""
        return [self.backbone]

    def assume_cached(self) -> list[nn.Module]:
        """Stand as after `prepare`, for a plan that has no images; return the towers that `prepare` alone calls."""
        return []

    def start(self, origins: Origins) -> dict[str, Any]:
        """Give networks the weights that they begin with, once; return what is not as the run built it."""
        return {}

    def prepare(self, images: Images, clock: Clock, runtime: Runtime) -> None:
        """Compute once, before the first step, what training needs of the images, in the order of `Batch.index`."""

    def shown_views(self, batch: Batch, clock: Clock, images: Images) -> list[ShownView]:
        """Return what `forward` with the same batch and clock makes its networks see; none by default."""
        return []

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the scalar `loss` of a batch, and detached scalars worth logging, all on the batch's device."""
        raise NotImplementedError

    def before_step(self, clock: Clock) -> None:
        """Run after backward and clipping, before the optimiser's step."""

    def after_step(self, clock: Clock) -> None:
        """Run after the optimiser's step; `clock` is still at that step."""

    def logits(self, images: Tensor) -> Tensor | None:
        """Return a trained classifier's logits (B, labels) of images (B, 3, s, s); None: the method trains none."""
        return None

    def guessing(self) -> dict[str, float]:
        """Return the value that logged losses have as long as nothing is learned, by name; none where it is unknown."""
        return {}

    def diagnostics(self) -> dict[str, float]:
        """Return what is too costly for every step, about the last batch."""
        return {}

    def networks(self) -> dict[str, dict[str, nn.Module]]:
        """Return the parts of each network, `encoder` and `head`, by role: `student`, and `teacher` if there is one.

        The teacher's parts have the parameters of the student's, in the same order, where it is a copy of it.
        """
        return {"student": {"encoder": self.backbone}}

    @property
    def begins_alike(self) -> bool:
        """Return whether a teacher of the student's architecture begins with the student's weights."""
        return True

    def readout(self, role: str, embeddings: Tensor, clock: Clock) -> dict[str, Tensor]:
        """Return what a role's network makes of embeddings (B, embed_dim): `projections`, `logits`, each (B, D)."""
        return {}

    def features(self, clock: Clock) -> dict[str, Tensor]:
        """Return what the last forward pass made, detached, by role and kind (`teacher/embeddings`): (views, B, D).

        Nothing before `keep_features`; of an accumulated batch the last part's.
        """
        return dict(self._kept or {})

    def keep_features(self) -> None:
        """Keep, from now on, what a forward pass makes until the next one; it takes the memory of these tensors."""
        self._kept = {}

    def hyperparameters(self, clock: Clock) -> dict[str, float]:
        """Return the values that the method's own schedules and buffers have at a step."""
        return {}

    def _keep(self, size: int, made: Mapping[str, Tensor]) -> None:
        """Keep rows (views x size, D) by name, where they are asked for."""
        if self._kept is not None:
            self._kept = {name: rows.detach().unflatten(0, (-1, size)) for name, rows in made.items()}

    def describe(self) -> dict[str, Any]:
        """Return the choices the method made itself, for the run's summary."""
        return {}

    def param_groups(self) -> list[ParamGroup]:
        """Return what is optimised: the trainable parameters, without weight decay on biases and norms."""
        return weight_decay_groups(self.named_parameters())

    def own_parameters(self) -> dict[str, Shard]:
        """Return the parameters of which every process holds other rows, by name."""
        return shards_in(self)

    def backbone_waits(self, clock: Clock) -> bool:
        """Return whether the backbone is still frozen while the head warms up."""
        return clock.step < round(self.warmup_fraction * clock.total_steps)

    def embed(self, images: Tensor, clock: Clock) -> Tensor:
        """Return the backbone's embeddings (B, embed_dim); while it waits, in evaluation mode and without autograd."""
        with self.phase(clock):
            embeddings: Tensor = self.backbone(images)
        return embeddings

    @contextlib.contextmanager
    def phase(self, clock: Clock) -> Iterator[None]:
        """Set the backbone's mode; while it waits, also switch autograd off."""
        self.set_phase(clock)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._waiting):
            yield

    def set_phase(self, clock: Clock) -> None:
        """Set the backbone's mode where the waiting begins or ends; without effect at any other step."""
        waits = self.backbone_waits(clock)
        if waits != self._waiting:
            self._waiting = waits
            self.train(self.training)

    def train(self, mode: bool = True) -> MethodBase:
        """Set the training mode of everything but the frozen parts, which stay in evaluation mode."""
        super().train(mode)
        if self._waiting:
            for tower in self.towers():  # a teacher's backbone waits with the student's
                tower.eval()
        return self
