"""Separable resampling: the weights of a line's pixels, and images times such weights, densely or in blocks.

Antialiased resampling is `rows.T @ image @ columns` with one pair of matrices per image, so that a batch with another
box for each image needs no loop. Of a column of such a matrix few entries are not zero. Up to some hundred pixels a
dense product is faster than anything that knows so; larger images are multiplied in blocks of neighbouring targets,
which need a short piece of the line only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from dinodiet.types import Interpolation

_REACH = {"bilinear": 1, "bicubic": 2}  # of the kernel, to each side
_BLOCK = 16  # targets that are computed together


def num_weights(longest: float, target: int, interpolation: Interpolation) -> int:
    """Return how many pixels make one target, where lines of up to `longest` pixels are resized to `target`."""
    return math.ceil(2 * _REACH[interpolation] * max(1.0, longest / target)) + 1


def line_weights(
    start: Tensor, length: Tensor, source: int, target: int, interpolation: Interpolation, count: int
) -> tuple[Tensor, Tensor]:
    """Return what resamples [start, start + length) of lines of `source` pixels to `target` pixels.

    `start` and `length` are (N,). The result is the first pixel of each target, int64 (N, target), and the weights of
    the `count` pixels (see `num_weights`) from there on, float32 (N, count, target). Pixels outside the interval have
    weight 0, as if the crop had been cut out first. The kernels are those of `interpolate(antialias=True)`: a
    triangle, or Keys' cubic with a = -0.5, widened when the line shrinks.
    """
    count, device = min(count, source), start.device
    start, length = start.float()[:, None], length.float()[:, None]
    scale = length / target
    width = scale.clamp(min=1)
    centre = (torch.arange(target, device=device) + 0.5) * scale
    first = (centre - _REACH[interpolation] * width + 0.5).floor_().clamp_(min=0)
    first = torch.minimum(first, source - count - start)
    pixel = first[:, None] + torch.arange(count, device=device)[:, None]
    distance = (pixel + 0.5 - centre[:, None]).div_(width[..., None]).abs_()
    weight = _triangle(distance) if interpolation == "bilinear" else _cubic(distance)
    weight *= (pixel >= 0) & (pixel < length[..., None])
    return (start + first).long(), weight.div_(weight.sum(1, keepdim=True))


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp_(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Return Keys' kernel: each of the two polynomials is 0 at the ends of its interval, so that clamping selects."""
    inner, outer = distance.clamp(max=1), distance.clamp(1, 2)
    return (1.5 * inner - 2.5).mul_(inner).mul_(inner).add_(1).sub_((outer - 1).mul_((outer - 2).square_()), alpha=0.5)


def matrix(first: Tensor, weights: Tensor, source: int) -> Tensor:
    """Return the weights (N, target), (N, count, target) as dense matrices (N, source, target)."""
    N, count, target = weights.shape
    index = first[:, None] + torch.arange(count, device=first.device)[:, None]
    return weights.new_zeros(N, source, target).scatter_(1, index, weights)


def blur_weights(sigma: Tensor, size: int, reach: int) -> tuple[Tensor, Tensor]:
    """Return the weights of Gaussians of (N,) sigmas, cut at `reach` pixels, for lines mirrored at their ends.

    The results are as those of `line_weights`: (N, size), and (N, count, size) with the count 2 `reach` + 1, or `size`.
    """
    count, device = min(2 * reach + 1, size), sigma.device
    target = torch.arange(size, device=device)
    first = (target - reach).clamp(0, size - count)
    pixel = first + torch.arange(count, device=device)[:, None]
    # A pixel, its image in the mirror at the beginning, and in that at the end; the last pixels are their own images.
    places = torch.stack([pixel, -pixel, 2 * (size - 1) - pixel])
    distance = places - target
    counts = distance.abs() <= reach
    counts[1:] &= places[1:] != pixel
    exponent = distance.square() * (-0.5 / sigma.square())[:, None, None, None]
    weights = exponent.clamp_(min=-30).exp_().mul_(counts).sum(1)  # smaller ones would be denormal, which is slow
    return first.expand(len(sigma), -1), weights.div_(weights.sum(1, keepdim=True))


def separable(images: Tensor, rows: Tensor, columns: Tensor, out: Tensor) -> None:
    """Write `rows.T @ channel @ columns` for every channel: (N, 3, H, W), (N, H, h), (N, W, w) -> (N, 3, h, w)."""
    N, C, H, W = images.shape
    narrow = torch.bmm(images.reshape(N, C * H, W), columns).view(N, C, H, -1)
    for channel, plane in zip(narrow.unbind(1), out.unbind(1), strict=True):
        torch.bmm(rows.transpose(1, 2), channel, out=plane)


@dataclass(frozen=True)
class BlockWeights:
    """Weights of N lines in blocks of `width` targets.

    `weights` (N, blocks, K, width) are those of block j for the `lengths[n]` pixels from `origins[n] + j * steps[n]`
    on. Origins may be negative, and the last pixels outside the line: their weights are 0.
    """

    weights: Tensor
    origins: list[int]
    steps: list[int]
    lengths: list[int]
    target: int

    def extent(self, n: int) -> int:
        """Return the number of pixels from the first to the last that line n is computed from."""
        return self.steps[n] * (self.weights.shape[1] - 1) + self.lengths[n]


def in_blocks(first: Tensor, weights: Tensor, scale: Tensor) -> BlockWeights:
    """Return weights on the CPU, (N, target) and (N, count, target), in blocks; `scale` (N,) is pixels per target."""
    N, count, target = weights.shape
    blocks = -(-target // _BLOCK)
    width = -(-target // blocks)
    missing = blocks * width - target  # the last target is computed again to fill the last block
    if missing:
        first = torch.cat([first, first[:, -1:].expand(-1, missing)], 1)
        weights = torch.cat([weights, weights[:, :, -1:].expand(-1, -1, missing)], 2)
    first = first.view(N, blocks, width)
    steps = (scale * width).floor().long()
    drift = steps[:, None] * torch.arange(blocks)
    origins = (first.amin(2) - drift).amin(1)
    begin = origins[:, None] + drift
    lengths = (first.amax(2) + count - begin).amax(1)
    index = (first - begin[..., None])[:, :, None] + torch.arange(count)[:, None]
    blocked = weights.view(N, count, blocks, width).transpose(1, 2)
    dense = weights.new_zeros(N, blocks, int(lengths.max()), width).scatter_(2, index, blocked)
    return BlockWeights(dense, origins.tolist(), steps.tolist(), lengths.tolist(), target)


def workspace(rows: BlockWeights, columns: BlockWeights) -> Tensor:
    """Return memory for what `resample_blocks` computes on its way: asking for it each time would cost more."""
    N, blocks, _, height = rows.weights.shape
    _, wide, _, width = columns.weights.shape
    longest = max(columns.extent(n) for n in range(N))
    window = max(rows.extent(n) for n in range(N)) * longest
    return torch.zeros(3 * (window + blocks * height * (longest + wide * width)), device=rows.weights.device)


def resample_blocks(
    pixels: Tensor, rows: BlockWeights, columns: BlockWeights, n: int, space: Tensor, out: Tensor
) -> None:
    """Resample (3, H, W) pixels of any type by the n-th weights, to float32 (3, rows.target, columns.target).

    `space` is from `workspace`; what other images leave in it is only met by weights of 0.
    """
    H, W = rows.extent(n), columns.extent(n)
    window, rest = _take(space, H, 3, W)
    y, x = rows.origins[n], columns.origins[n]
    inside = pixels[:, max(0, y) : y + H, max(0, x) : x + W].transpose(0, 1)
    top, left = max(0, -y), max(0, -x)
    window[top : top + len(inside), :, left : left + inside.shape[2]] = inside
    weights = rows.weights[n, :, : rows.lengths[n]]
    blocks, K, height = weights.shape
    lines = window.as_strided((blocks, K, 3 * W), (rows.steps[n] * 3 * W, 3 * W, 1))
    middle, rest = _take(rest, blocks, height, 3 * W)
    torch.bmm(weights.transpose(1, 2), lines, out=middle)
    weights = columns.weights[n, :, : columns.lengths[n]]
    wide, K, width = weights.shape
    lines = middle.as_strided((wide, blocks * height * 3, K), (columns.steps[n], W, 1))
    result, _ = _take(rest, wide, blocks * height * 3, width)
    torch.bmm(lines, weights, out=result)
    result = result.view(wide, blocks * height, 3, width).permute(2, 1, 0, 3)[:, : rows.target]
    if wide * width == columns.target:
        out.unflatten(2, (wide, width)).copy_(result)
    else:
        out.copy_(result.flatten(2)[:, :, : columns.target])


def _take(space: Tensor, *shape: int) -> tuple[Tensor, Tensor]:
    """Return the beginning of `space` in this shape, and the rest."""
    size = math.prod(shape)
    return space[:size].view(shape), space[size:]
