"""Cross-entropy of a linear head over many classes: exact, without holding the logits of all classes at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.methods.parts.class_chunks import Slope, chunk_of, product_dtype, sums
from dinodiet.methods.parts.sharded_cross_entropy import sharded_cross_entropy
from dinodiet.processes.gathering import gathered
from dinodiet.processes.sharding import Shard

LARGE = 2**25  # logits (batch x classes) from which on they are computed chunk by chunk: 128 MiB of them in float32


class ClassLogits:
    """Logits (B, C) = scale x features (B, D) weight' (C, D): the loss of any target, and the predicted classes.

    Up to `LARGE` logits this is `F.cross_entropy` of them. Beyond, the logits are computed in chunks of classes, once
    forwards and once more backwards: a third more arithmetic in the head, and memory that does not grow with B x C.
    With a `shard` the weight has its rows alone, and each process computes the logits of its own classes, in chunks.
    """

    def __init__(self, features: Tensor, weight: Tensor, *, scale: float, shard: Shard | None = None) -> None:
        self._features = features if shard is None else gathered(features)
        self._weight, self._scale, self._shard = weight, scale, shard
        self._predicted: Tensor | None = None
        large = shard is not None or len(features) * len(weight) > LARGE
        self._logits = None if large else scale * F.linear(features, weight).float()

    def cross_entropy(self, target: Tensor, *, label_smoothing: float) -> Tensor:
        """Return the mean cross-entropy with the (smoothed) classes `target`, int64 (B,)."""
        if self._logits is not None:
            return F.cross_entropy(self._logits, target, label_smoothing=label_smoothing)
        losses, self._predicted = self._in_chunks(target, label_smoothing)
        return losses.mean()

    def _in_chunks(self, target: Tensor, label_smoothing: float) -> tuple[Tensor, Tensor]:
        given, scale = (self._features, self._weight, target), self._scale
        if self._shard is None:
            return chunked_cross_entropy(*given, scale=scale, label_smoothing=label_smoothing)
        return sharded_cross_entropy(*given, shard=self._shard, scale=scale, label_smoothing=label_smoothing)

    def predicted(self) -> Tensor:
        """Return the class of the largest logit, int64 (B,); of a large head after the first `cross_entropy`."""
        if self._logits is not None:
            return self._logits.argmax(1)
        assert self._predicted is not None
        return self._predicted


def chunked_cross_entropy(
    features: Tensor, weight: Tensor, target: Tensor, *, scale: float, label_smoothing: float, chunk: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return each row's cross-entropy, float32 (B,) (float64 of float64), and its predicted class, int64 (B,).

    With logits z = scale x features weight', smoothing s and C classes, a row's loss is
    logsumexp(z) - (1 - s) z[target] - s mean(z). Under autocast the matrix products have its precision, and all else is
    float32. `chunk` is in classes; None: `CHUNK` logits.
    """
    chunk = chunk or chunk_of(len(features))
    dtype = product_dtype(features)
    losses, predicted = _Chunked.apply(features, weight, target, scale, label_smoothing, chunk, dtype)
    return losses, predicted


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        target: Tensor,
        scale: float,
        label_smoothing: float,
        chunk: int,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        ctx.scale, ctx.label_smoothing, ctx.chunk, ctx.dtype = scale, label_smoothing, chunk, dtype
        with torch.autocast(features.device.type, enabled=False):
            found = sums(features.to(dtype), weight, target, scale=scale, chunk=chunk)
            losses = found.losses(label_smoothing, len(weight))
        ctx.save_for_backward(features, weight, target, found.spread())
        ctx.mark_non_differentiable(found.predicted)
        return losses, found.predicted

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, target, spread = ctx.saved_tensors
        slope = Slope(target, spread, gradients[0], ctx.label_smoothing, len(weight))
        for_features, for_weight = slope.gradients(features.to(ctx.dtype), weight, scale=ctx.scale, chunk=ctx.chunk)
        return for_features.to(features.dtype), for_weight, None, None, None, None, None
