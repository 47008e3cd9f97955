"""Gram anchoring: patches of an image stay as alike as they were to an earlier network (Simeoni et al. 2025)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.config.ranges import NonNegative, Range
from dinodiet.errors import UserError
from dinodiet.methods.parts.teacher import teacher_of
from dinodiet.methods.parts.unsaved import leave_unsaved
from dinodiet.processes.gathering import gathered
from dinodiet.schedules import Scalar
from dinodiet.types import Backbone, Clock

Within = Literal["image", "batch"]
Negative = Literal["kept", "cut", "cut_in_target"]


class Gram(nn.Module):
    """DINOv3's anchor against the decay of patch tokens in long trainings (arXiv:2508.10104, section 4.2).

    The anchor is the backbone as it was when the training began; with `refresh_steps` it becomes the teacher's
    backbone as it is after every so many steps. One that is never refreshed is not in the state dict: a training that
    goes on has it from the weights that it began with. Others than those are refused.

    Args:
        backbone: the student's, at the start.
        weight: of the term; a number or a schedule. DINOv3 has 2.
        refresh_steps: None, or after how many steps the anchor is replaced; DINOv3 has 10,000.
        within: patches are compared within an image, or within the whole batch of views.
        normalize: similarities are cosines.
        negative: similarities below 0 are kept, cut off to 0, or cut off in the anchor's alone.
    """

    start: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        weight: NonNegative[Scalar] = 2.0,
        refresh_steps: Annotated[int | None, Range(1)] = None,
        within: Within = "image",
        normalize: bool = True,
        negative: Negative = "kept",
    ) -> None:
        super().__init__()
        assert isinstance(backbone, nn.Module)
        self.weight, self.refresh_steps = weight, refresh_steps
        self.within, self.normalize, self.negative = within, normalize, negative
        self.anchor = teacher_of(backbone).eval()
        self.register_buffer("start", _sum_of(self.anchor))
        if refresh_steps is None:
            leave_unsaved(self, "anchor")
            self.register_load_state_dict_pre_hook(Gram._check_start)  # type: ignore[no-untyped-call]

    def forward(self, images: Tensor, patches: Tensor) -> Tensor:
        """Return the term, in float32, of the student's patch tokens (V, N, D) of `images` (V, 3, h, w)."""
        with torch.no_grad():
            _, targets = self.anchor.embedding_and_patches(images)  # type: ignore[operator]
        return gram_loss(patches, targets, within=self.within, normalize=self.normalize, negative=self.negative)

    def after_step(self, teacher: nn.Module, clock: Clock) -> None:
        """Replace the anchor where it is due; `teacher` is a backbone."""
        if self.refresh_steps is not None and (clock.step + 1) % self.refresh_steps == 0:
            self.anchor.load_state_dict(teacher.state_dict())

    def train(self, mode: bool = True) -> Gram:
        """Set nothing: the anchor stays in evaluation mode."""
        return self

    def _check_start(self, state: dict[str, Any], prefix: str, *_: Any) -> None:
        """Refuse the state of a training that began with other weights: the anchor is not in it."""
        given = state.get(f"{prefix}start")
        if given is not None and not torch.allclose(given.cpu(), self.start.cpu(), rtol=1e-9):
            raise UserError(
                "model.weights: they are not those that this training began with, which patches.gram compares with; "
                "bring them back, or begin anew under another name"
            )


def gram_loss(student: Tensor, target: Tensor, *, within: Within, normalize: bool, negative: Negative) -> Tensor:
    """Return the mean squared difference of the similarities of patch tokens (V, N, D), in float32."""
    with torch.autocast(student.device.type, enabled=False):
        both = [tokens if within == "image" else gathered(tokens) for tokens in (student, target.detach())]
        grams = [_similarities(tokens.float(), within, normalize) for tokens in both]
        found, expected = grams
        if negative != "kept":
            expected = expected.clamp(min=0)
        if negative == "cut":
            found = found.clamp(min=0)
        return F.mse_loss(found, expected)


def _similarities(tokens: Tensor, within: Within, normalize: bool) -> Tensor:
    rows = tokens if within == "image" else tokens.flatten(0, 1)
    rows = F.normalize(rows, dim=-1) if normalize else rows
    return rows @ rows.mT


@torch.no_grad()
def _sum_of(module: nn.Module) -> Tensor:
    """Return the sum of all values of a module, by which others are told from it."""
    return torch.stack(list(_sums(module))).sum()


def _sums(module: nn.Module) -> Iterator[Tensor]:
    return (value.double().sum() for value in module.state_dict().values())
