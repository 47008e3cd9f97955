"""Random resized crops: boxes drawn for all images of a batch at once, and the pixels in them.

The meaning of each operation is torchvision's (`RandomResizedCrop.get_params`, `resize` and `resized_crop` with
`antialias=True`, on float images).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dinodiet.data.views.resample import (
    BlockWeights,
    in_blocks,
    line_weights,
    matrix,
    num_weights,
    resample_blocks,
    separable,
    workspace,
)
from dinodiet.data.views.sending import send
from dinodiet.processes.rows import draw_rows
from dinodiet.types import Interpolation

_RATIO = (3 / 4, 4 / 3)
_TRIES = 10
_DENSE_PIXELS = 96**2  # of an image; larger ones are faster in blocks, on a CPU
_CPU_PIXELS = 2**17  # of the images that are cropped at once


def short_side(height: int, width: int, size: int) -> tuple[int, int]:
    """Return the height and width of an image whose shorter side is resized to `size`, rounded as torchvision does."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def draw_boxes(heights: Tensor, widths: Tensor, scale: Tensor, generator: torch.Generator, *, views: int = 1) -> Tensor:
    """Draw one box (top, left, height, width) per image, int64 (N, 4): `RandomResizedCrop`, vectorised.

    `heights` and `widths` are (N,) pixels. The area is uniform between the two parts of the image's in `scale` (N, 2),
    the aspect ratio log-uniform in 3/4-4/3. Of ten tries the first that fits is taken; where none fits, the largest
    central crop of an allowed ratio. The rows run over `views`, then images.
    """
    H, W = heights.double()[:, None], widths.double()[:, None]

    def draw(rows: int) -> Tensor:
        return torch.rand(rows, 2 * _TRIES + 2, generator=generator, dtype=torch.float64)

    uniform = draw_rows(draw, len(heights), generator, blocks=views)
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


def crop(
    images: Tensor | Sequence[Tensor],
    boxes: Tensor,
    size: int,
    interpolation: Interpolation,
    grid_size: int | None = None,
    mirrored: Tensor | None = None,
) -> Tensor:
    """Cut one box out of each image and resize it: float32 (N, 3, size, size) on 0-1, in memory (3, N, size, size).

    `images` is uint8 (N, 3, H, W) or N images (3, H, W) of any sizes, `boxes` int64 (N, 4) on the CPU. With
    `grid_size`, the images are first resized to that shorter side, and the boxes are meant for the result. Crops that
    are `mirrored`, bool (N,) on the CPU, are turned left to right. Bicubic overshoot is clamped, as it is where pixels
    are stored in 8 bits.
    """
    mirrored = torch.zeros(len(boxes), dtype=torch.bool) if mirrored is None else mirrored
    device = images[0].device
    crops = torch.empty(3, len(boxes), size, size, device=device).transpose(0, 1)
    if not isinstance(images, Tensor) and device.type != "cpu" and grid_size is None:
        images = _padded(images)
    if isinstance(images, Tensor) and not (device.type == "cpu" and images[0, 0].numel() > _DENSE_PIXELS):
        _crop_batch(images, boxes, interpolation, grid_size, mirrored, out=crops)
    else:
        _crop_each(images, boxes, interpolation, grid_size, mirrored, out=crops)
    return crops.clamp_(0, 1)


def _padded(images: Sequence[Tensor]) -> Tensor:
    """Return images of different sizes as one batch, which a GPU crops at once; what is added is in no box."""
    H, W = (max(image.shape[side] for image in images) for side in (1, 2))
    batch = images[0].new_zeros(len(images), 3, H, W)
    for row, image in zip(batch, images, strict=True):
        row[:, : image.shape[1], : image.shape[2]] = image
    return batch


def _crop_batch(
    images: Tensor,
    boxes: Tensor,
    interpolation: Interpolation,
    grid_size: int | None,
    mirrored: Tensor,
    out: Tensor,
) -> None:
    """Write the crops of images of one size, not clamped, to float32 (N, 3, size, size)."""
    (H, W), size, device = images.shape[-2:], out.shape[-1], images.device
    grid_h, grid_w = short_side(H, W, grid_size) if grid_size else (H, W)
    counts = [num_weights(longest, size, interpolation) for longest in boxes[:, 2:].amax(0).tolist()]
    top, left, height, width = send(boxes, device).unbind(1)
    first_row, row_weights = line_weights(top, height, grid_h, size, interpolation, counts[0])
    first, weights = line_weights(left, width, grid_w, size, interpolation, counts[1])
    turn = send(mirrored[:, None], device)
    first, weights = torch.where(turn, first.flip(1), first), torch.where(turn[..., None], weights.flip(2), weights)
    row_weights.div_(255)
    step = max(1, _CPU_PIXELS // (H * W)) if device.type == "cpu" else len(boxes)
    for start in range(0, len(boxes), step):
        n = slice(start, start + step)
        rows, columns = matrix(first_row[n], row_weights[n], grid_h), matrix(first[n], weights[n], grid_w)
        if (grid_h, grid_w) != (H, W):  # the matrix of two resamplings is the product of theirs
            rows = _whole(H, grid_h, interpolation, device) @ rows
            columns = _whole(W, grid_w, interpolation, device) @ columns
        separable(images[n].float(), rows, columns, out[n])


def _whole(source: int, target: int, interpolation: Interpolation, device: torch.device) -> Tensor:
    """Return the (source, target) matrix that resizes a whole line."""
    start = torch.zeros(1, device=device)
    count = num_weights(source, target, interpolation)
    return matrix(*line_weights(start, start + source, source, target, interpolation, count), source)[0]


def _crop_each(
    images: Tensor | Sequence[Tensor],
    boxes: Tensor,
    interpolation: Interpolation,
    grid_size: int | None,
    mirrored: Tensor,
    out: Tensor,
) -> None:
    """Write the crops of images of any sizes, not clamped, to float32 (N, 3, size, size), one after another."""
    size, device = out.shape[-1], images[0].device
    rows = _bands_of(boxes[:, 2], size, interpolation, device, factor=1 / 255)
    columns = _bands_of(boxes[:, 3], size, interpolation, device)
    space = workspace(rows, columns)
    turned = mirrored.tolist()
    for n, (image, (top, left, height, width)) in enumerate(zip(images, boxes.tolist(), strict=True)):
        pixels = image
        if grid_size:
            pixels = _resized(image, short_side(image.shape[1], image.shape[2], grid_size), interpolation)
        resample_blocks(pixels[:, top : top + height, left : left + width], rows, columns, n, space, out=out[n])
        if turned[n]:
            out[n] = out[n].flip(2)


def _resized(image: Tensor, shape: tuple[int, int], interpolation: Interpolation) -> Tensor:
    """Return the (3, H, W) image at another size, float32 on 0-255."""
    sides = zip(image.shape[1:], shape, strict=True)
    rows, columns = (_bands_of(torch.tensor([source]), target, interpolation, image.device) for source, target in sides)
    out = torch.empty(3, *shape, device=image.device)
    resample_blocks(image, rows, columns, 0, workspace(rows, columns), out)
    return out


def _bands_of(
    lengths: Tensor, target: int, interpolation: Interpolation, device: torch.device, factor: float = 1.0
) -> BlockWeights:
    """Return the weights that resize lines of (N,) pixels to `target` and multiply by `factor`."""
    longest = int(lengths.max())
    count = num_weights(longest, target, interpolation)
    first, weights = line_weights(torch.zeros_like(lengths), lengths, longest, target, interpolation, count)
    made = in_blocks(first, weights.mul_(factor), lengths / target)
    return replace(made, weights=send(made.weights, device))
