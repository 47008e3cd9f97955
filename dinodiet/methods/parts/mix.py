"""MixUp (Zhang et al. 2018, arXiv:1710.09412) and CutMix (Yun et al. 2019, arXiv:1905.04899) of a batch of views."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from dinodiet.config.ranges import Fraction, Range
from dinodiet.processes.gathering import gathered
from dinodiet.processes.rows import draw_rows

Alpha = Annotated[float, Range(0, 1000)]


@dataclass(frozen=True)
class Mixed:
    """Images (B, 3, H, W) mixed with others of the batch; `kept` is the weight of an image's own target.

    `partner` (B,) is the place of the other image in the batch of all processes.
    """

    images: Tensor
    partner: Tensor
    kept: float

    def loss(self, criterion: Callable[[Tensor], Tensor], target: Tensor) -> Tensor:
        """Return the criterion on the mixed target.

        Cross-entropy is linear in its target, so mixing the two losses is mixing the two (smoothed) targets exactly,
        without writing out one number per class.
        """
        if self.kept == 1.0:
            return criterion(target)
        return self.kept * criterion(target) + (1 - self.kept) * criterion(gathered(target)[self.partner])


class Mix:
    """Mixes each batch by MixUp or CutMix, one of the two at random where both are on.

    Args:
        mixup_alpha, cutmix_alpha: of the Beta distribution from which the weights are drawn; 0 is off.
        probability: that a batch is mixed at all.
        switch: that it is CutMix, where both are on; None: one half.
    """

    def __init__(
        self,
        *,
        mixup_alpha: Alpha = 0.0,
        cutmix_alpha: Alpha = 0.0,
        probability: Fraction[float] = 1.0,
        switch: Fraction[float | None] = None,
    ) -> None:
        self.probability, self.switch = probability, switch
        self.alphas = {"mixup": mixup_alpha, "cutmix": cutmix_alpha}
        self.kinds = [kind for kind, alpha in self.alphas.items() if alpha > 0]

    def __call__(self, images: Tensor, generator: torch.Generator) -> Mixed:
        """Mix a batch as the generator says; with both off, return it as it is."""
        partner = draw_rows(lambda rows: torch.randperm(rows, generator=generator), len(images), generator)
        if not self.kinds:
            return Mixed(images, partner, 1.0)
        # torch draws no Beta from a generator of its own
        draw = np.random.default_rng(generator.initial_seed())
        if self.probability < 1 and draw.random() >= self.probability:
            return Mixed(images, partner.to(images.device), 1.0)
        kind = self._kind(draw)
        kept = float(draw.beta(self.alphas[kind], self.alphas[kind]))
        partner = partner.to(images.device)
        if kind == "mixup":
            return Mixed(kept * images + (1 - kept) * gathered(images)[partner], partner, kept)
        return _cutmix(images, partner, kept, draw)

    def _kind(self, draw: np.random.Generator) -> str:
        if self.switch is None or len(self.kinds) < 2:
            return self.kinds[int(draw.integers(len(self.kinds)))]
        return "cutmix" if draw.random() < self.switch else "mixup"


def _cutmix(images: Tensor, partner: Tensor, kept: float, draw: np.random.Generator) -> Mixed:
    """Paste a box of area (1 - kept) from the partner, cut off at the border; `kept` becomes what really is left."""
    height, width = images.shape[-2:]
    side = (1 - kept) ** 0.5
    centre_y, centre_x = draw.integers(height), draw.integers(width)
    top, bottom = (int(np.clip(centre_y + sign * side * height / 2, 0, height)) for sign in (-1, 1))
    left, right = (int(np.clip(centre_x + sign * side * width / 2, 0, width)) for sign in (-1, 1))
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = gathered(images)[partner][..., top:bottom, left:right]
    return Mixed(mixed, partner, 1 - (bottom - top) * (right - left) / (height * width))
