"""The first step of every backbone: pixels in 0..1 to what its weights were trained to see."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dinodiet.types import InputSpec


class Normalize(nn.Module):
    """Images (B, 3, h, w) in 0..1 -> (images - mean) / std per channel, float32.

    Mean and deviation move with the module and are not in its state dict. Autocast leaves the arithmetic alone.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, input: InputSpec) -> None:
        super().__init__()
        for name, values in (("mean", input.mean), ("std", input.std)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised images, in the memory layout of the given ones."""
        return images.float().sub(self.mean).div_(self.std)
