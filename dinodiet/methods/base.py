"""The method contract: what a self-supervised method gives the training loop, with defaults that do nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dinodiet.backbones.freeze import set_trainable
from dinodiet.errors import UserError
from dinodiet.methods.parts.param_groups import weight_decay_groups
from dinodiet.types import Backbone, Batch, Clock, Images, ParamGroup


class Method(nn.Module):
    """A backbone, what is trained on top of it, and the loss of a batch.

    The loop calls, once per step: `loss` (once per part when gradients are accumulated), backward, clipping,
    `before_step`, the optimiser's step, `after_step`. All state belongs into the state dict: it is what resumes a run.

    `trainable` (all | head_only | last_<n>_blocks) says which parts of the backbone are trained. For the first
    `head_only_fraction` of the steps the backbone waits frozen while a new head warms up: random gradients from a
    fresh head would ruin pretrained weights. Frozen parts stay in evaluation mode and out of autograd.

    Raises:
        UserError: `trainable` or `head_only_fraction` is not one of the valid choices.
    """

    backbone: nn.Module

    def __init__(self, backbone: Backbone, *, trainable: str = "all", head_only_fraction: float = 0.0) -> None:
        super().__init__()
        if not 0 <= head_only_fraction <= 1:
            raise UserError(f"head_only_fraction: {head_only_fraction}; give a part of the training from 0 to 1")
        assert isinstance(backbone, nn.Module)
        set_trainable(backbone, trainable)
        self.backbone = backbone
        self.head_only_fraction = head_only_fraction
        self._waiting = False

    @property
    def encoder(self) -> nn.Module:
        """Return the module whose embeddings are evaluated."""
        return self.backbone

    @property
    def sees_pictures(self) -> bool:
        """Return whether `loss` reads the images of a batch, and not only their labels and indices."""
        return True

    def prepare(
        self, images: Images, clock: Clock, *, folder: Path, device: torch.device, precision: str, num_workers: int
    ) -> None:
        """Compute once, before the first step, what the training needs; `folder` keeps it for other runs.

        `images` are those to train on, in the order that `Batch.index` counts.
        """

    def loss(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the scalar `loss` of a batch, and detached scalars worth logging, all on the batch's device."""
        raise NotImplementedError

    def before_step(self, clock: Clock) -> None:
        """Run after backward and clipping, before the optimiser's step."""

    def after_step(self, clock: Clock) -> None:
        """Run after the optimiser's step; `clock` is still at that step."""

    def diagnostics(self) -> dict[str, float]:
        """Return what is too costly for every step, about the last batch."""
        return {}

    def describe(self) -> dict[str, Any]:
        """Return the choices the method made itself, for the run's summary."""
        return {}

    def param_groups(self) -> list[ParamGroup]:
        """Return what is optimised: the trainable parameters, without weight decay on biases and norms."""
        return weight_decay_groups(self.named_parameters())

    def backbone_waits(self, clock: Clock) -> bool:
        """Return whether the backbone is still frozen while the head warms up."""
        return clock.step < round(self.head_only_fraction * clock.total_steps)

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

    def train(self, mode: bool = True) -> Method:
        """Set the training mode of everything but the frozen parts, which stay in evaluation mode."""
        super().train(mode)
        if self._waiting:
            self.backbone.eval()
            self.encoder.eval()  # a teacher's backbone waits with the student's
        return self
