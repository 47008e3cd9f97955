"""SimCLR's loss: a view is told apart from the views of all other images of the batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.ranges import Temperature
from dinodiet.processes.gathering import gathered, rank
from dinodiet.schedules import Scalar, at
from dinodiet.types import Clock


class NTXent:
    """Normalised, temperature-scaled cross-entropy of pairs of views (Chen et al. 2020, arXiv:2002.05709, equation 1).

    `temperature` divides the cosines: 0.5 for small images, 0.1 on ImageNet.
    """

    def __init__(self, *, temperature: Temperature[Scalar] = 0.5) -> None:
        self.temperature = temperature

    def __call__(self, projections: Tensor, index: Tensor, clock: Clock) -> dict[str, Tensor]:
        """Return the mean `loss` of all 2B views, and the mean cosine of the pairs (`positive_cosine`), in float32.

        Where an image is in the batch twice, as in small sets, its views are not each other's negatives. The batch is
        that of all processes, with equally many images each; the loss is the mean over the views of this one.

        Args:
            projections: (2, B, D), not normalised.
            index: (B,), the images that the views are of.
            clock: when it is, for a temperature that is a schedule.
        """
        with torch.autocast(projections.device.type, enabled=False):
            rows = F.normalize(projections.flatten(0, 1).float(), dim=1)
            cosines = rows @ gathered(rows).T
        own = slice(rank() * len(rows), (rank() + 1) * len(rows))
        positive = cosines[:, own].diagonal(len(index))
        images = index.repeat(2)
        is_negative = images[:, None] != gathered(images)
        logits = cosines / at(self.temperature, clock)
        pairs = positive.repeat(2) / at(self.temperature, clock)
        rest = logits.masked_fill(~is_negative, -math.inf).logsumexp(dim=1)
        loss = (torch.logaddexp(rest, pairs) - pairs).mean()
        return {"loss": loss, "positive_cosine": positive.detach().mean()}

    def guessing(self, batch: int) -> float:
        """Return the loss of `batch` images whose projections are all one: log(2B - 1)."""
        return math.log(max(2 * batch - 1, 1))
