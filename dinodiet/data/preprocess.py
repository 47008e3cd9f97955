"""Un-augmented images in the form that a backbone's weights expect.

Resize and centre crop are torchvision's, on float images, with antialiasing.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from dinodiet.types import InputSpec


@torch.no_grad()
def preprocess(images: Tensor | Sequence[Tensor], spec: InputSpec) -> Tensor:
    """Resize, centre-crop and normalise: float32 (B, 3, spec.size, spec.size).

    `images` is uint8 (B, 3, H, W) or a list of (3, H, W) of any sizes. An image larger than the input is resized so
    that the crop keeps `spec.crop_fraction` of its shorter side; of any other the shorter side becomes `spec.size`.
    """
    return normalize(resize_and_crop(images, spec), spec)


def resize_and_crop(images: Tensor | Sequence[Tensor], spec: InputSpec) -> Tensor:
    """Return the images as `preprocess` does, but on 0-1: float32 (B, 3, spec.size, spec.size)."""
    if not isinstance(images, Tensor):
        return torch.cat([resize_and_crop(image[None], spec) for image in images])
    small = min(images.shape[-2:]) <= spec.size
    shorter = spec.size if small else round(spec.size / spec.crop_fraction)
    pixels = tvf.resize(images.float() / 255, [shorter], InterpolationMode(spec.interpolation), antialias=True)
    cropped: Tensor = tvf.center_crop(pixels, [spec.size])
    return cropped.clamp(0, 1)


def normalize(pixels: Tensor, spec: InputSpec) -> Tensor:
    """Return (pixels - mean) / std per channel."""
    mean, std = _statistics(spec, pixels.device)
    return pixels.sub(mean).div_(std)


@lru_cache(maxsize=64)
def _statistics(spec: InputSpec, device: torch.device) -> Tensor:
    """Return mean and standard deviation, (2, 3, 1, 1); kept, as every copy to a GPU would wait for it."""
    return torch.tensor([spec.mean, spec.std], device=device).view(2, 3, 1, 1)
