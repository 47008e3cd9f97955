"""Un-augmented images at the size that a backbone's weights expect.

Resize and centre crop are torchvision's, on float images, with antialiasing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from dinodiet.types import InputSpec


@torch.no_grad()
def preprocess(images: Tensor | Sequence[Tensor], spec: InputSpec) -> Tensor:
    """Resize and centre-crop: float32 (B, 3, spec.size, spec.size) in 0..1.

    `images` is uint8 (B, 3, H, W) or a list of (3, H, W) of any sizes. An image larger than the input is resized so
    that the crop keeps `spec.crop_fraction` of its shorter side; of any other the shorter side becomes `spec.size`.
    """
    if not isinstance(images, Tensor):
        return torch.cat([preprocess(image[None], spec) for image in images])
    small = min(images.shape[-2:]) <= spec.size
    shorter = spec.size if small else round(spec.size / spec.crop_fraction)
    pixels = tvf.resize(images.float() / 255, [shorter], InterpolationMode(spec.interpolation), antialias=True)
    cropped: Tensor = tvf.center_crop(pixels, [spec.size])
    return cropped.clamp(0, 1)
