"""Cross-entropy of a linear head whose classes are spread over processes: exact, over the classes of all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dinodiet.methods.parts.class_chunks import Slope, Sums, chunk_of, product_dtype, sums
from dinodiet.processes.gathering import gathered, largest, rank, size, summed
from dinodiet.processes.sharding import Shard


def sharded_cross_entropy(
    features: Tensor,
    weight: Tensor,
    target: Tensor,
    *,
    shard: Shard,
    scale: float,
    label_smoothing: float,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of each row of this process, float32 (B,), and its predicted class, int64 (B,).

    `features` (W x B, D) are those of all processes, as `gathered` returns them, `weight` has the rows of the `shard`,
    and `target` (B,) counts the classes of all. Otherwise as `chunked_cross_entropy`: every process computes the logits
    of its own classes, of which maximum and sums are reduced over all. All processes call it, and its backward pass.

    Gradients are such that the loss of a training is the mean over the processes. Features have that of their own
    process's loss, which the mean of gradients over processes then divides by W. The weight has that of the mean: it
    lies here alone, and nothing is to be reduced any more.
    """
    chunk, dtype = chunk or chunk_of(len(features)), product_dtype(features)
    losses, predicted = _Sharded.apply(features, weight, gathered(target), shard, scale, label_smoothing, chunk, dtype)
    return losses, predicted


def _own(rows: Tensor) -> Tensor:
    """Return the rows of this process among those of all."""
    return rows.chunk(size())[rank()]


def _reduced(found: Sums, shard: Shard) -> Sums:
    """Return the sums over the classes of all processes; of equally high logits the first class is predicted."""
    highest = largest(found.highest)
    lowered = found.mass * (found.highest - highest).exp()
    mass, total, own = summed(torch.stack([lowered, found.total, found.own])).unbind()
    predicted = torch.where(found.highest == highest, shard.start + found.predicted, shard.total)
    return Sums(highest, -largest(-predicted), mass, total, own)


class _Sharded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        target: Tensor,
        shard: Shard,
        scale: float,
        label_smoothing: float,
        chunk: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        ctx.shard, ctx.scale, ctx.label_smoothing, ctx.chunk, ctx.dtype = shard, scale, label_smoothing, chunk, dtype
        column = target - shard.start
        with torch.autocast(features.device.type, enabled=False):
            found = _reduced(sums(features.to(dtype), weight, column, scale=scale, chunk=chunk), shard)
            losses, predicted = _own(found.losses(label_smoothing, shard.total)), _own(found.predicted)
        ctx.save_for_backward(features, weight, column, found.spread())
        ctx.mark_non_differentiable(predicted)
        return losses, predicted

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, column, spread = ctx.saved_tensors
        outer = gathered(gradients[0]) / size()
        slope = Slope(column, spread, outer, ctx.label_smoothing, ctx.shard.total)
        for_features, for_weight = slope.gradients(features.to(ctx.dtype), weight, scale=ctx.scale, chunk=ctx.chunk)
        return for_features.mul_(size()).to(features.dtype), for_weight, *[None] * 6
