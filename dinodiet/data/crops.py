"""Random resized crops of a batch: boxes drawn for all images at once, resampling as two batched matrix products.

The meaning of each operation is torchvision's (`RandomResizedCrop.get_params`, `resize` and `resized_crop` with
`antialias=True`). Antialiased resampling is separable, so a crop is `rows @ image @ columns.T` with one pair of
matrices per image, and a batch with another box for each image needs no loop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.types import Interpolation

_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


def short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Return the height and width of an image whose shorter side is resized to `size`, rounded as torchvision does."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def draw_boxes(heights: Tensor, widths: Tensor, scale: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one box (top, left, height, width) per image, int64 (N, 4): `RandomResizedCrop`, vectorised.

    `heights` and `widths` are (N,) pixels. The area is uniform between the two parts of the image's in `scale` (N, 2),
    the aspect ratio log-uniform in 3/4-4/3. Of ten tries the first that fits is taken; where none fits, the largest
    central crop of an allowed ratio.
    """
    H, W = heights.double()[:, None], widths.double()[:, None]
    uniform = torch.rand(len(heights), 2 * _TRIES + 2, generator=generator, dtype=torch.float64)
    area = H * W * (scale[:, :1] + (scale[:, 1:] - scale[:, :1]) * uniform[:, :_TRIES])
    low, high = math.log(_RATIO[0]), math.log(_RATIO[1])
    ratio = (low + (high - low) * uniform[:, _TRIES:-2]).exp()
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (w > 0) & (w <= W) & (h > 0) & (h <= H)
    first = fits.long().argmax(1, keepdim=True)
    w, h = w.gather(1, first), h.gather(1, first)
    top, left = (uniform[:, -2:-1] * (H - h + 1)).floor(), (uniform[:, -1:] * (W - w + 1)).floor()
    boxes = torch.cat([top, left, h, w], 1)
    return torch.where(fits.any(1, keepdim=True), boxes, _central_boxes(H, W)).long()


def _central_boxes(heights: Tensor, widths: Tensor) -> Tensor:
    """Return the largest central boxes whose aspect ratio lies in 3/4-4/3, (N, 4)."""
    h, w = torch.minimum(heights, (widths / _RATIO[0]).round()), torch.minimum(widths, (heights * _RATIO[1]).round())
    return torch.cat([((heights - h) / 2).floor(), ((widths - w) / 2).floor(), h, w], 1)


def resize_matrix(start: Tensor, length: Tensor, source: int, target: int, interpolation: Interpolation) -> Tensor:
    """Return (N, target, source): resample [start, start + length) of a line of `source` pixels to `target` pixels.

    Pixels outside the interval have weight 0, as if the crop had been cut out first. The kernels are those of
    `interpolate(antialias=True)`: a triangle, or Keys' cubic with a = -0.5, widened when the line shrinks.
    """
    device = start.device
    scale = (length / target)[:, None, None]
    centre = (torch.arange(target, device=device)[:, None] + 0.5) * scale
    position = torch.arange(source, device=device) - start[:, None, None] + 0.5
    distance = (position - centre).div_(scale.clamp(min=1.0)).abs_()
    weight = _triangle(distance) if interpolation == "bilinear" else _cubic(distance)
    weight *= (position > 0) & (position < length[:, None, None])
    return weight / weight.sum(-1, keepdim=True)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp_(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Return Keys' kernel: each of the two polynomials is 0 at the ends of its interval, so that clamping selects."""
    inner, outer = distance.clamp(max=1), distance.clamp(1, 2)
    return (1.5 * inner - 2.5).mul_(inner).mul_(inner).add_(1).sub_((outer - 1).mul_((outer - 2).square_()), alpha=0.5)


def separable(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return `rows @ channel @ columns.T` for every channel: (N, 3, H, W), (N, h, H), (N, w, W) -> (N, 3, h, w)."""
    N, C, H, W = images.shape
    narrow = torch.bmm(images.reshape(N, C * H, W), columns.transpose(1, 2)).view(N, C, H, -1)
    return torch.stack([torch.bmm(rows, channel) for channel in narrow.unbind(1)], 1)


def crop(
    images: Tensor | Sequence[Tensor],
    boxes: Tensor,
    size: int,
    interpolation: Interpolation,
    grid_size: int | None = None,
) -> Tensor:
    """Cut one box out of each image and resize it: float32 (N, 3, size, size) on 0-1.

    `images` is uint8 (N, 3, H, W) or N images (3, H, W) of any sizes, `boxes` int64 (N, 4) on the CPU. With
    `grid_size`, the images are first resized to that shorter side, and the boxes are meant for the result. Bicubic
    overshoot is clamped, as it is where pixels are stored in 8 bits.
    """
    if isinstance(images, Tensor):
        return _crop_batch(images, boxes, size, interpolation, grid_size)
    crops = [
        _crop_image(image, box, size, interpolation, grid_size)
        for image, box in zip(images, boxes.tolist(), strict=True)
    ]
    return torch.cat(crops).clamp_(0, 1)


def _crop_batch(
    images: Tensor, boxes: Tensor, size: int, interpolation: Interpolation, grid_size: int | None
) -> Tensor:
    top, left, height, width = boxes.to(images.device, torch.float32).unbind(1)
    H, W = images.shape[-2:]
    grid_h, grid_w = short_side(H, W, grid_size) if grid_size else (H, W)
    rows = resize_matrix(top, height, grid_h, size, interpolation)
    columns = resize_matrix(left, width, grid_w, size, interpolation)
    if (grid_h, grid_w) != (H, W):  # the matrix of two resamplings is the product of theirs
        rows = rows @ _whole(H, grid_h, interpolation, images.device)
        columns = columns @ _whole(W, grid_w, interpolation, images.device)
    return separable(images.float(), rows / 255, columns).clamp_(0, 1)


def _whole(source: int, target: int, interpolation: Interpolation, device: torch.device) -> Tensor:
    """Return the (target, source) matrix that resizes a whole line."""
    start = torch.zeros(1, device=device)
    return resize_matrix(start, start + source, source, target, interpolation)[0]


def _crop_image(
    image: Tensor, box: list[int], size: int, interpolation: Interpolation, grid_size: int | None
) -> Tensor:
    """Crop one uint8 (3, H, W) image: float32 (1, 3, size, size), not clamped."""
    top, left, height, width = box
    pixels = image[None]
    if grid_size:
        pixels = _resize(pixels.float(), short_side(image.shape[1], image.shape[2], grid_size), interpolation)
    pixels = pixels[..., top : top + height, left : left + width].float() / 255
    return _resize(pixels, (size, size), interpolation)


def _resize(pixels: Tensor, shape: tuple[int, int], interpolation: Interpolation) -> Tensor:
    return F.interpolate(pixels, shape, mode=interpolation, align_corners=False, antialias=True)
