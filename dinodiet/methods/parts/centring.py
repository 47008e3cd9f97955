"""A teacher's predictions that do not collapse: centred by a moving mean, or by Sinkhorn-Knopp, and sharpened."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.methods.parts.sinkhorn import sinkhorn_knopp
from dinodiet.schedules import Scalar, at
from dinodiet.types import Clock

Centring = Literal["mean", "sinkhorn"]


class Centred(nn.Module):
    """The teacher's side of a distillation (Caron et al. 2021, section 3.1); what is derived from it adds a loss.

    The centre of the teacher's logits is a buffer (1, out_dim), from 0. It moves after the loss is computed, once per
    step however many parts the step's batch is split into: `see` sums the logits up (from anew in a step's first part),
    `update_center` moves the centre.
    """

    center: Tensor

    def __init__(self, out_dim: int, *, teacher_temp: Scalar, center_momentum: float, centring: Centring) -> None:
        super().__init__()
        self.teacher_temp, self.center_momentum, self.centring = teacher_temp, center_momentum, centring
        self.register_buffer("center", torch.zeros(1, out_dim))
        self._sum, self._rows = torch.zeros(()), 0

    def targets(self, logits: Tensor, clock: Clock) -> Tensor:
        """Return the teacher's probabilities of logits (rows, out_dim)."""
        temperature = at(self.teacher_temp, clock)
        if self.centring == "sinkhorn":
            return sinkhorn_knopp(logits / temperature)
        return F.softmax((logits - self.center) / temperature, dim=-1)

    def see(self, logits: Tensor, clock: Clock) -> None:
        """Take the teacher's logits (rows, out_dim) of a part of the step into account."""
        seen = logits.detach().sum(0, keepdim=True, dtype=torch.float32)
        self._sum, self._rows = (seen, 0) if clock.part == 0 else (self._sum + seen, self._rows)
        self._rows += len(logits)

    @torch.no_grad()
    def update_center(self) -> None:
        """Move the centre towards the mean of the teacher's logits over the step's parts."""
        self.center.mul_(self.center_momentum).add_(self._sum / self._rows, alpha=1 - self.center_momentum)
