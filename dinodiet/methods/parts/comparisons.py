"""What a loss of self-distillation makes of targets and predictions: cross-entropy, KL, squared distance, entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.methods.parts.diagnostics import entropy
from dinodiet.methods.parts.pairs import Pairs

Kind = Literal["ce", "kl", "mse", "entropy"]


@dataclass(frozen=True)
class Targets:
    """What predictions of B images should be: logits and their probabilities (views, B, C)."""

    logits: Tensor
    probabilities: Tensor

    def entropy(self) -> Tensor:
        """Return the mean entropy of a target in nats."""
        return entropy(self.probabilities).mean()


def cross_entropy(targets: Targets, predictions: Tensor, pairs: Pairs) -> Tensor:
    """Return - sum_c p_c log q_c, the mean over images and pairs; p are targets, q the softmax of predictions."""
    # A sum over the student's views replaces views x views products: a pair's term is linear in the log-probabilities.
    partners = pairs.partners(F.log_softmax(predictions, dim=-1))
    return -(targets.probabilities * partners).sum() / (len(pairs) * predictions.shape[1])


def divergence(targets: Targets, predictions: Tensor, pairs: Pairs) -> Tensor:
    """Return the Kullback-Leibler divergence from targets to predictions: the cross-entropy without their entropy."""
    return cross_entropy(targets, predictions, pairs) - targets.entropy()


def squared_distance(targets: Targets, predictions: Tensor, pairs: Pairs) -> Tensor:
    """Return the mean over outputs, images and pairs of the squared difference of logits; no softmax is taken."""
    of_pairs = torch.stack([(target - predictions).square().mean((1, 2)) for target in targets.logits])
    return (of_pairs * pairs.mask().to(of_pairs.device)).sum() / len(pairs)


def prediction_entropy(targets: Targets, predictions: Tensor, pairs: Pairs) -> Tensor:
    """Return the mean entropy of all predictions: a student that sharpens itself, whatever the targets are."""
    logs = F.log_softmax(predictions, dim=-1)
    return -(logs.exp() * logs).sum(-1).mean()


COMPARISONS: dict[Kind, Callable[[Targets, Tensor, Pairs], Tensor]] = {
    "ce": cross_entropy,
    "kl": divergence,
    "mse": squared_distance,
    "entropy": prediction_entropy,
}
