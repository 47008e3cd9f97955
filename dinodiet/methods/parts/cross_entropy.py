"""Cross-entropy of a linear head over many classes: exact, without holding the logits of all classes at once."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE = 2**25  # logits (batch x classes) from which on they are computed chunk by chunk: 128 MiB of them in float32
CHUNK = 2**22  # logits in memory at a time: 16 MiB in float32, of which up to four copies are alive


class ClassLogits:
    """Logits (B, C) = scale x features (B, D) weight' (C, D): the loss of any target, and the predicted classes.

    Up to `LARGE` logits this is `F.cross_entropy` of them. Beyond, the logits are computed in chunks of classes, once
    forwards and once more backwards: a third more arithmetic in the head, and memory that does not grow with B x C.
    """

    def __init__(self, features: Tensor, weight: Tensor, *, scale: float) -> None:
        self._features, self._weight, self._scale = features, weight, scale
        self._predicted: Tensor | None = None
        large = len(features) * len(weight) > LARGE
        self._logits = None if large else scale * F.linear(features, weight).float()

    def cross_entropy(self, target: Tensor, *, label_smoothing: float) -> Tensor:
        """Return the mean cross-entropy with the (smoothed) classes `target`, int64 (B,)."""
        if self._logits is not None:
            return F.cross_entropy(self._logits, target, label_smoothing=label_smoothing)
        losses, self._predicted = chunked_cross_entropy(
            self._features, self._weight, target, scale=self._scale, label_smoothing=label_smoothing
        )
        return losses.mean()

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
    logsumexp(z) - (1 - s) z[target] - s mean(z). The log-sum-exp runs over the chunks with a running maximum (Milakov
    and Gimelshein 2018, arXiv:1805.02867); backwards, each chunk's logits are computed again. Under autocast the matrix
    products have its precision, and all else is float32. `chunk` is in classes; None: `CHUNK` logits.
    """
    device = features.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
    chunk = chunk or max(CHUNK // max(len(features), 1), 1)
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
            rows = features.to(dtype)
            kept = torch.float64 if dtype == torch.float64 else torch.float32
            highest = torch.full((len(rows),), -torch.inf, dtype=kept, device=rows.device)
            mass, total, own = (torch.zeros_like(highest) for _ in range(3))  # of exp, of logits, of the target's logit
            predicted = torch.zeros_like(target)
            for start in range(0, len(weight), chunk):
                logits = _logits(rows, weight[start : start + chunk], scale)
                top, where = logits.max(1)
                predicted = torch.where(top > highest, start + where, predicted)
                raised = torch.maximum(top, highest)
                total += logits.sum(1)
                own += _at(logits, target - start)
                mass = mass * (highest - raised).exp() + logits.sub_(raised[:, None]).exp_().sum(1)
                highest = raised
            spread = highest + mass.log()
            losses = spread - (1 - label_smoothing) * own - label_smoothing / len(weight) * total
        ctx.save_for_backward(features, weight, target, spread)
        ctx.mark_non_differentiable(predicted)
        return losses, predicted

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, target, spread = ctx.saved_tensors
        rows, outer = features.to(ctx.dtype), gradients[0][:, None]
        for_features = torch.zeros_like(rows, dtype=spread.dtype)
        for_weight = torch.empty_like(weight)
        for start in range(0, len(weight), ctx.chunk):
            part = weight[start : start + ctx.chunk]
            slope = _logits(rows, part, ctx.scale).sub_(spread[:, None]).exp_().sub_(ctx.label_smoothing / len(weight))
            _add_at_(slope, target - start, ctx.label_smoothing - 1)
            slope = slope.mul_(outer * ctx.scale).to(ctx.dtype)
            for_features += slope @ part.to(ctx.dtype)
            for_weight[start : start + ctx.chunk] = slope.T @ rows
        return for_features.to(features.dtype), for_weight, None, None, None, None, None


def _logits(rows: Tensor, part: Tensor, scale: float) -> Tensor:
    """Return the logits (B, classes of the part), in float32 at least."""
    logits = rows @ part.to(rows.dtype).T
    return (logits if logits.dtype == torch.float64 else logits.float()).mul_(scale)


def _at(logits: Tensor, column: Tensor) -> Tensor:
    """Return each row's logit at its column, 0 where the column lies outside."""
    inside = (column >= 0) & (column < logits.shape[1])
    return logits.gather(1, column.clamp(0, logits.shape[1] - 1)[:, None])[:, 0] * inside


def _add_at_(slope: Tensor, column: Tensor, value: float) -> None:
    """Add a value to each row at its column, in place; rows whose column lies outside stay as they are."""
    inside = (column >= 0) & (column < slope.shape[1])
    slope.scatter_add_(1, column.clamp(0, slope.shape[1] - 1)[:, None], (inside.to(slope.dtype) * value)[:, None])
