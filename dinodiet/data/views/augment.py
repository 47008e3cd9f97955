"""Augmentations of a batch: float (N, 3, H, W) on 0-1, each with its own parameters per image, done in place.

Every operation means what torchvision's functional operation of the same name means on a float image; here one call
treats a batch in which every image has other parameters. Parameters are tensors on the CPU, so that the choice of which
images to touch costs no synchronisation with a GPU; pixels stay on their device. Memory in the order (3, N, H, W) is
fastest: a channel of all images is then one piece.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.data.views.resample import blur_weights, in_blocks, matrix, resample_blocks, separable, workspace
from dinodiet.data.views.sending import send

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
SOLARIZE_THRESHOLD = 128 / 255
_BLUR_REACH = 4  # in sigmas; what lies beyond is 6e-5 of the kernel
_DENSE_SIZE = 64  # larger images are faster blurred in blocks, on a CPU
_SIGN = -(2**31)  # of a float's bits, as an int32


def where(images: Tensor, chosen: Tensor, operation: Callable[..., Tensor], *parameters: Tensor) -> Tensor:
    """Do `operation(images, *parameters)`, in place, to the images `chosen` (bool (N,), CPU); return all."""
    rows = chosen.nonzero().flatten()
    if len(rows) == len(chosen):
        return images.copy_(operation(images, *parameters))
    if _is_large(images):
        for n in rows.tolist():
            image = images[n : n + 1]
            image.copy_(operation(image, *(parameter[n : n + 1] for parameter in parameters)))
    elif len(rows):
        there, planes = send(rows, images.device), images.transpose(0, 1)
        changed = operation(
            planes.index_select(1, there).transpose(0, 1), *(parameter[rows] for parameter in parameters)
        )
        planes.index_copy_(1, there, changed.transpose(0, 1))
    return images


def _is_large(images: Tensor) -> bool:
    """Return whether images are better treated one by one: on a CPU, where a call costs little beside their pixels."""
    return images.device.type == "cpu" and images.shape[-1] > _DENSE_SIZE


def flip(images: Tensor) -> Tensor:
    """Mirror left and right."""
    return images.flip(-1)


def grayscale(images: Tensor) -> Tensor:
    """Return the luma (ITU-R 601, torchvision's weights) in all three channels."""
    return _luma(images)[:, None].expand_as(images)


def solarize(images: Tensor) -> Tensor:
    """Invert the values from 128/255 up."""
    return torch.where(images >= SOLARIZE_THRESHOLD, 1 - images, images)


def jitter_order(chosen: Tensor, order: Tensor) -> Tensor:
    """Return the row numbers in the order that `color_jitter` wants: first the `chosen` (bool (N,)), by the hue."""
    return torch.where(chosen, _hue_place(order), -1).argsort(descending=True, stable=True)


def _hue_place(order: Tensor) -> Tensor:
    return (order == HUE).long().argmax(1)


def color_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Adjust brightness, contrast, saturation and hue, in place, in another order for each image.

    `factors` is (N, 4): three blend factors (1 changes nothing) and the shift of the hue in turns. Each row of `order`,
    int64 (N, 4), is a permutation of the four operations, first to last; rows with the hue at a later place come first
    (see `jitter_order`), so that the images to be blended before the hue, or after it, are a slice.

    The first three operations are blends, done in one go whichever they are.
    """
    places = _hue_place(order).tolist()
    assert places == sorted(places, reverse=True), "the later the hue, the earlier the row"
    before = [sum(place > step for place in places) for step in range(3)]
    weights = send(_blend_weights(factors, order), images.device)
    for step, count in enumerate(before):
        _blend(images[:count], weights[step, :, :count])
    adjust_hue(images, factors[:, HUE])
    for step, count in enumerate(before):
        _blend(images[count:], weights[step, :, count:])
    return images


def _blend_weights(factors: Tensor, order: Tensor) -> Tensor:
    """Return the weights of image, mean luma and luma in the three blends in their order: (3, 3, N, 1, 1)."""
    blends = order[order != HUE].view(-1, 3)
    factor = factors.gather(1, blends)
    rest = 1 - factor
    weights = torch.stack([factor, rest * (blends == CONTRAST), rest * (blends == SATURATION)])
    return weights.permute(2, 0, 1)[..., None, None]


def _blend(images: Tensor, weights: Tensor) -> None:
    """Blend in place with the mean luma and the luma (brightness: with neither, that is with black)."""
    if len(images):
        luma = _luma(images)
        mean = luma.mean((1, 2), keepdim=True).mul_(weights[1])
        other = luma.mul_(weights[2]).add_(mean)
        images.mul_(weights[0, :, None]).add_(other[:, None]).clamp_(0, 1)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by (N,) parts of the circle, in place, keeping HSV's saturation and value.

    On the circle of six, with red at 0, green at 2 and blue at 4, the distance of a colour from red is
    1 + (g + b - r - low) / chroma, and it lies on green's side if g > b. Each channel falls from value to low where
    the distance from its own place rises from 1 to 2.
    """
    r, g, b = images.unbind(1)
    value, low = torch.maximum(r, g), torch.minimum(r, g)
    value, low = torch.maximum(value, b, out=value), torch.minimum(low, b, out=low)
    chroma = (value - low).clamp_(min=1e-12)  # of gray pixels the hue is any number
    hue = (g - r).add_(b).sub_(low).div_(chroma).add_(1)
    side = g - b
    hue.view(torch.int32).bitwise_or_(side.view(torch.int32).bitwise_and_(_SIGN))
    hue += send(6 * shift, images.device).view(-1, 1, 1)
    hue.sub_(torch.mul(hue, 1 / 6, out=side).floor_(), alpha=6)
    highest, lowest = value.add_(chroma), low.sub_(chroma)
    for channel, place, base, slope in ((r, 3, lowest, 1), (g, 2, highest, -1), (b, 4, highest, -1)):
        distance = torch.sub(hue, place, out=channel).abs_().clamp_(1, 2)
        torch.addcmul(base, distance, chroma, value=slope, out=channel)
    return images


def blur_kernel_size(sigma_max: float, size: int) -> int:
    """Return the odd length of the blur's kernel: 4 sigma to each side, at most the mirrored image."""
    return 2 * min(math.ceil(_BLUR_REACH * sigma_max), size - 1) + 1


def gaussian_blur(images: Tensor, chosen: Tensor, sigma: Tensor, kernel_size: int) -> Tensor:
    """Blur the `chosen` with a Gaussian of (N,) sigmas in pixels, mirrored at the border, in place."""
    if not chosen.any():
        return images
    reach = kernel_size // 2
    if not _is_large(images):
        return where(images, chosen, partial(_blurred, reach=reach), sigma)
    rows = chosen.nonzero().flatten()
    vertical, horizontal = _each_side(
        images, lambda side: in_blocks(*blur_weights(sigma[rows], side, reach), torch.ones(len(rows)))
    )
    space = workspace(vertical, horizontal)
    for n, row in enumerate(rows.tolist()):
        resample_blocks(images[row], vertical, horizontal, n, space, out=images[row])
    return images


def _blurred(images: Tensor, sigma: Tensor, reach: int) -> Tensor:
    there = send(sigma, images.device)
    vertical, horizontal = _each_side(images, lambda side: matrix(*blur_weights(there, side, reach), side))
    result = torch.empty_like(images)
    separable(images, vertical, horizontal, out=result)
    return result


def _each_side(images: Tensor, make: Callable[[int], Any]) -> tuple[Any, Any]:
    """Return what is made for the height and the width of images; once where they are equal."""
    height, width = images.shape[-2:]
    made = make(height)
    return made, made if width == height else make(width)


def affine(images: Tensor, angle: Tensor, translate: Tensor, scale: Tensor) -> Tensor:
    """Turn by (N,) degrees clockwise, enlarge by (N,) factors and shift by (N, 2) parts (x, y) of square images.

    Bilinear; what comes from outside the image is black.
    """
    turn = torch.deg2rad(angle)
    cos, sin = turn.cos() / scale, turn.sin() / scale
    linear = torch.stack([cos, sin, -sin, cos], 1).view(-1, 2, 2)
    shift = linear @ (-2 * translate)[..., None]  # the image spans 2 in the grid's coordinates
    theta = send(torch.cat([linear, shift], 2), images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _luma(images: Tensor) -> Tensor:
    """Return 0.2989 R + 0.587 G + 0.114 B, (N, H, W)."""
    r, g, b = images.unbind(1)
    return (r * 0.2989).add_(g, alpha=0.587).add_(b, alpha=0.114)
