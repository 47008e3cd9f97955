"""Targets: the class that an image stands for."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dinodiet.errors import UserError
from dinodiet.types import Clock, DataSpec


class IndexTargets(nn.Module):
    """The index of each image as its class (Balestriero 2023, arXiv:2302.10260), or one of `num_classes` at random.

    Random classes are drawn once, from `seed`: the control that tells whether it matters that images have their own.

    Raises:
        UserError: `num_classes` is below 2.
    """

    of_index: Tensor

    def __init__(self, spec: DataSpec, *, num_classes: int | None = None, seed: int = 0) -> None:
        super().__init__()
        if num_classes is not None and num_classes < 2:
            raise UserError(f"num_classes: {num_classes}; must be at least 2, or null: one class per image")
        self.num_classes = spec.num_images if num_classes is None else num_classes
        of_index = torch.arange(spec.num_images)
        if num_classes is not None:
            generator = Clock(0, 0, 1, seed=seed).generator("diet_targets")
            of_index = torch.randint(num_classes, (spec.num_images,), generator=generator)
        self.register_buffer("of_index", of_index, persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        """Return the classes, int64 (B,), of the images at `index`, int64 (B,)."""
        return self.of_index[index]
