"""Augmentations of a batch: float (N, 3, H, W) on 0-1, each with its own parameters per image.

Every operation means what torchvision's functional operation of the same name means on a float image; here one call
treats a batch in which every image has other parameters. Parameters are tensors on the CPU, so that the choice of which
images to touch costs no synchronisation with a GPU; pixels stay on their device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.data.crops import separable

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
SOLARIZE_THRESHOLD = 128 / 255
_BLUR_REACH = 4  # in sigmas; what lies beyond is 6e-5 of the kernel


def where(images: Tensor, chosen: Tensor, operation: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Return `images` with `operation(images, *parameters)` done, in place, to those `chosen` (bool (N,), CPU)."""
    rows = chosen.nonzero().flatten()
    if len(rows) == len(chosen):
        return operation(images, *parameters)
    if len(rows):
        there = rows.to(images.device)
        images[there] = operation(images[there], *(parameter[rows] for parameter in parameters))
    return images


def flip(images: Tensor) -> Tensor:
    """Mirror left and right."""
    return images.flip(-1)


def grayscale(images: Tensor) -> Tensor:
    """Return the luma (ITU-R 601, torchvision's weights) in all three channels."""
    return _luma(images).repeat(1, 3, 1, 1)


def solarize(images: Tensor) -> Tensor:
    """Invert the values from 128/255 up."""
    return torch.where(images >= SOLARIZE_THRESHOLD, 1 - images, images)


def color_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Adjust brightness, contrast, saturation and hue, in another order for each image.

    `factors` is (N, 4): three blend factors (1 changes nothing) and the shift of the hue in turns. Each row of `order`,
    int64 (N, 4), is a permutation of the four operations, first to last.

    The first three operations are blends, done in one go whichever they are. Images are sorted by the place of the hue
    in their order, so that those to be blended before it, or after it, are a slice.
    """
    hue_at, sorting = (order == HUE).long().argmax(1).sort(descending=True, stable=True)
    before = [sum(place > step for place in hue_at.tolist()) for step in range(3)]
    weights = _blend_weights(factors[sorting], order[sorting]).to(images.device)
    there = sorting.to(images.device)
    images = images[there]
    for step, count in enumerate(before):
        _blend(images[:count], weights[step, :, :count])
    images = adjust_hue(images, factors[sorting, HUE])
    for step, count in enumerate(before):
        _blend(images[count:], weights[step, :, count:])
    return torch.empty_like(images).index_copy_(0, there, images)


def _blend_weights(factors: Tensor, order: Tensor) -> Tensor:
    """Return the weights of image, mean luma and luma in the three blends in their order: (3, 3, N, 1, 1, 1)."""
    blends = order[order != HUE].view(-1, 3)
    factor = factors.gather(1, blends)
    rest = 1 - factor
    weights = torch.stack([factor, rest * (blends == CONTRAST), rest * (blends == SATURATION)])
    return weights.permute(2, 0, 1)[..., None, None, None]


def _blend(images: Tensor, weights: Tensor) -> None:
    """Blend in place with the mean luma and the luma (brightness: with neither, that is with black)."""
    if len(images):
        luma = _luma(images)
        other = luma.mean((2, 3), keepdim=True).mul_(weights[1]) + luma.mul_(weights[2])
        images.mul_(weights[0]).add_(other).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by (N,) parts of the circle, keeping HSV's saturation and value."""
    r, g, b = _channels(images)
    value, low = torch.maximum(torch.maximum(r, g), b), torch.minimum(torch.minimum(r, g), b)
    chroma = (value - low).clamp_(min=1e-12)  # of gray pixels the hue is any number
    of_green = torch.where(value == g, (b - r).div_(chroma).add_(2), (r - g).div_(chroma).add_(4))
    hue = torch.where(value == r, (g - b).div_(chroma), of_green)  # in sixths of the circle
    hue += 6 * _column(shift, images)
    hue -= (hue / 6).floor_().mul_(6)
    # Over the circle each channel is a trapezium: red is lowest about 3; green highest about 2, blue about 4.
    centre, slope, offset = _trapezia(images.device)
    trapezium = (hue - centre).abs_().mul_(slope).add_(offset).clamp_(0, 1)
    return torch.addcmul(low, trapezium, chroma)


@lru_cache(maxsize=16)
def _trapezia(device: torch.device) -> Tensor:
    return torch.tensor([[3.0, 2.0, 4.0], [1.0, -1.0, -1.0], [-1.0, 2.0, 2.0]], device=device).view(3, 3, 1, 1)


def blur_kernel_size(sigma_max: float, size: int) -> int:
    """Return the odd length of the blur's kernel: 4 sigma to each side, at most the mirrored image."""
    return 2 * min(math.ceil(_BLUR_REACH * sigma_max), size - 1) + 1


def gaussian_blur(images: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur square images with a Gaussian of (N,) sigmas in pixels, mirrored at the border."""
    taps = _blur_taps(images.shape[-1], kernel_size, images.device)
    offset = torch.arange(kernel_size, device=images.device) - kernel_size // 2
    exponent = -0.5 * (offset / _column(sigma, images).view(-1, 1)) ** 2
    kernel = exponent.clamp_(min=-30).softmax(1)  # smaller weights would only be denormal numbers, which are slow
    matrix = (kernel @ taps.flatten(1)).view(-1, *taps.shape[1:])
    return separable(images, matrix, matrix)


@lru_cache(maxsize=16)
def _blur_taps(size: int, kernel_size: int, device: torch.device) -> Tensor:
    """Return (K, size, size): for each kernel position, the matrix that fetches every pixel's mirrored neighbour."""
    source = torch.arange(size) + torch.arange(kernel_size)[:, None] - kernel_size // 2
    source = (size - 1) - ((size - 1) - source.abs()).abs()
    return F.one_hot(source, size).float().to(device)


def affine(images: Tensor, angle: Tensor, translate: Tensor, scale: Tensor) -> Tensor:
    """Turn by (N,) degrees clockwise, enlarge by (N,) factors and shift by (N, 2) parts (x, y) of square images.

    Bilinear; what comes from outside the image is black.
    """
    turn = torch.deg2rad(angle)
    cos, sin = turn.cos() / scale, turn.sin() / scale
    linear = torch.stack([cos, sin, -sin, cos], 1).view(-1, 2, 2)
    shift = linear @ (-2 * translate)[..., None]  # the image spans 2 in the grid's coordinates
    theta = torch.cat([linear, shift], 2).to(images.device, images.dtype)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _luma(images: Tensor) -> Tensor:
    """Return 0.2989 R + 0.587 G + 0.114 B, (N, 1, H, W)."""
    r, g, b = _channels(images)
    return (r * 0.2989).add_(g, alpha=0.587).add_(b, alpha=0.114)


def _channels(images: Tensor) -> tuple[Tensor, ...]:
    return images[:, :, None].unbind(1)


def _column(parameter: Tensor, images: Tensor) -> Tensor:
    """Return one number per image in a shape and place that broadcasts over the images."""
    return parameter.to(images.device, images.dtype).view(-1, 1, 1, 1)
