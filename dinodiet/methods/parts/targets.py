"""Targets: the class that an image stands for."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from dinodiet.config.ranges import Range, Seed
from dinodiet.errors import UserError
from dinodiet.types import Clock, DataSpec


class IndexTargets(nn.Module):
    """The index of each image as its class (Balestriero 2023, arXiv:2302.10260), or one of `num_classes` at random.

    Random classes are drawn once, from `seed`: the control that tells whether it matters that images have their own.

    Raises:
        UserError: there are more classes than images.
    """

    of_index: Tensor

    def __init__(
        self, spec: DataSpec, *, num_classes: Annotated[int | None, Range(2)] = None, seed: Seed[int] = 0
    ) -> None:
        super().__init__()
        if num_classes is not None and num_classes > spec.num_images:
            raise UserError(f"num_classes: {num_classes}; there are {spec.num_images} images, so at most that, or null")
        self.num_classes = spec.num_images if num_classes is None else num_classes
        of_index = torch.arange(spec.num_images)
        if num_classes is not None:
            generator = Clock(0, 0, 1, seed=seed).generator("diet_targets")
            of_index = torch.randint(num_classes, (spec.num_images,), generator=generator)
        self.register_buffer("of_index", of_index, persistent=False)

    def forward(self, index: Tensor) -> Tensor:
        """Return the classes, int64 (B,), of the images at `index`, int64 (B,)."""
        return self.of_index[index]
