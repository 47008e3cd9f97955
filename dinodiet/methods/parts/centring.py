"""Predictions that do not collapse: centred by a moving mean, or by Sinkhorn-Knopp, and sharpened."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.methods.parts.sinkhorn import sinkhorn_knopp
from dinodiet.processes.gathering import summed
from dinodiet.schedules import Scalar, at
from dinodiet.types import Clock

Centring = Literal["mean", "sinkhorn"]


class Centre(nn.Module):
    """A moving mean of logits, a buffer (1, out_dim) from 0 (Caron et al. 2021, section 3.1).

    `momentum` is the part of itself that it keeps in a step; None: it stays 0. It moves after the loss is computed,
    once per step however many parts the step's batch is split into: `see` sums the logits up (from anew in a step's
    first part), `update_center` moves the centre.
    """

    center: Tensor

    def __init__(self, out_dim: int, *, momentum: Scalar | None) -> None:
        super().__init__()
        self.center_momentum = momentum
        self.register_buffer("center", torch.zeros(1, out_dim))
        self._sum, self._rows = torch.zeros(()), 0

    def see(self, logits: Tensor, clock: Clock) -> None:
        """Take logits (rows, out_dim) of a part of the step into account."""
        seen = logits.detach().sum(0, keepdim=True, dtype=torch.float32)
        self._sum, self._rows = (seen, 0) if clock.part == 0 else (self._sum + seen, self._rows)
        self._rows += len(logits)

    @torch.no_grad()
    def update_center(self, clock: Clock) -> None:
        """Move the centre towards the mean of the logits over the step's parts, of all processes."""
        if self.center_momentum is not None:
            momentum = at(self.center_momentum, clock)
            rows = int(summed(torch.tensor(self._rows)))  # of patches, processes have unequally many
            self.center.mul_(momentum).add_(summed(self._sum) / rows, alpha=1 - momentum)


class Centred(Centre):
    """The teacher's side of a distillation (Caron et al. 2021, section 3.1); what is derived from it adds a loss."""

    def __init__(
        self, out_dim: int, *, teacher_temp: Scalar, center_momentum: Scalar | None, centring: Centring
    ) -> None:
        super().__init__(out_dim, momentum=center_momentum)
        self.teacher_temp, self.centring = teacher_temp, centring

    def logits(self, logits: Tensor, clock: Clock) -> Tensor:
        """Return logits (rows, out_dim) centred, where the mean centres them, and divided by the temperature."""
        centred = logits if self.centring == "sinkhorn" else logits - self.center
        return centred / at(self.teacher_temp, clock)

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return the teacher's probabilities of what `logits` returned."""
        return _PROBABILITIES[self.centring](logits)

    def targets(self, logits: Tensor, clock: Clock) -> Tensor:
        """Return the teacher's probabilities of logits (rows, out_dim)."""
        return self.probabilities(self.logits(logits, clock))


_PROBABILITIES: dict[Centring, Callable[[Tensor], Tensor]] = {
    "mean": functools.partial(F.softmax, dim=-1),
    "sinkhorn": sinkhorn_knopp,
}
