"""What cross-entropy needs of the logits of many classes, which are computed in chunks of classes, one at a time."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 2**22  # logits in memory at a time: 16 MiB in float32, of which up to four copies are alive


def chunk_of(rows: int) -> int:
    """Return how many classes have `CHUNK` logits with so many rows."""
    return max(CHUNK // max(rows, 1), 1)


def product_dtype(features: Tensor) -> torch.dtype:
    """Return the precision of matrix products: autocast's, where it is on."""
    device = features.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype


@dataclass(frozen=True)
class Sums:
    """Of each row (B,), over classes: the highest logit and its class, and the sums that its loss consists of.

    `mass` is the sum of exp(logit - highest), `total` that of the logits, `own` the target's logit, 0 where the target
    is none of the classes.
    """

    highest: Tensor
    predicted: Tensor
    mass: Tensor
    total: Tensor
    own: Tensor

    def spread(self) -> Tensor:
        """Return the log-sum-exp of the logits."""
        return self.highest + self.mass.log()

    def losses(self, label_smoothing: float, classes: int) -> Tensor:
        """Return each row's cross-entropy with a target that is smoothed over so many classes."""
        return self.spread() - (1 - label_smoothing) * self.own - label_smoothing / classes * self.total


def sums(rows: Tensor, weight: Tensor, target: Tensor, *, scale: float, chunk: int) -> Sums:
    """Return the sums over the logits scale x rows (B, D) weight' (C, D), in float32 at least.

    The log-sum-exp runs over the chunks with a running maximum (Milakov and Gimelshein 2018, arXiv:1805.02867).
    """
    kept = torch.float64 if rows.dtype == torch.float64 else torch.float32
    highest = torch.full((len(rows),), -torch.inf, dtype=kept, device=rows.device)
    mass, total, own = (torch.zeros_like(highest) for _ in range(3))
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
    return Sums(highest, predicted, mass, total, own)


@dataclass(frozen=True)
class Slope:
    """The slope of losses in the logits: softmax minus the target smoothed over `classes`, times `outer` (B,)."""

    target: Tensor
    spread: Tensor
    outer: Tensor
    label_smoothing: float
    classes: int

    def gradients(self, rows: Tensor, weight: Tensor, *, scale: float, chunk: int) -> tuple[Tensor, Tensor]:
        """Return the gradients of rows (B, D) and weight (C, D); each chunk's logits are computed again."""
        for_rows, for_weight = torch.zeros_like(rows, dtype=self.spread.dtype), torch.empty_like(weight)
        for start in range(0, len(weight), chunk):
            part = weight[start : start + chunk]
            slope = self._of(_logits(rows, part, scale), start, scale).to(rows.dtype)
            for_rows += slope @ part.to(rows.dtype)
            for_weight[start : start + chunk] = slope.T @ rows
        return for_rows, for_weight

    def _of(self, logits: Tensor, start: int, scale: float) -> Tensor:
        """Make the slope of a chunk of the logits, in place."""
        slope = logits.sub_(self.spread[:, None]).exp_().sub_(self.label_smoothing / self.classes)
        _add_at_(slope, self.target - start, self.label_smoothing - 1)
        return slope.mul_(self.outer[:, None] * scale)


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
