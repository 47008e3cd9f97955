"""A classifier of labels on embeddings, and its loss."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.config.ranges import Fraction, Range, Width
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mixed
from dinodiet.types import DataSpec


class Classifier(nn.Module):
    """Embeddings (B, in_dim) -> logits (B, labels), by a linear layer or by two with a ReLU between them.

    Args:
        in_dim: width of the embeddings.
        spec: facts about the data: the number of labels.
        hidden_dim: None, or the width of the hidden layer.
        lr_scale: the learning rate of the classifier over the backbone's.
        warmup_fraction: first part of the training in which the classifier is trained alone.
    """

    def __init__(
        self,
        in_dim: int,
        spec: DataSpec,
        *,
        hidden_dim: Width[int | None] = None,
        lr_scale: Annotated[float, Range(0, 1000)] = 1.0,
        warmup_fraction: Fraction[float] = 0.0,
    ) -> None:
        super().__init__()
        self.lr_scale, self.warmup_fraction = lr_scale, warmup_fraction
        hidden = [] if hidden_dim is None else [nn.Linear(in_dim, hidden_dim), nn.ReLU()]
        self.layers = nn.Sequential(*hidden, nn.Linear(hidden_dim or in_dim, spec.num_labels))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the logits (B, labels)."""
        logits: Tensor = self.layers(embeddings)
        return logits


def label_loss(logits: Tensor, label: Tensor, mixed: Mixed, criterion: CrossEntropy) -> Tensor:
    """Return the mean loss of logits (B, L): of classes int64 (B,) the criterion's, of labels (B, L) the binary one."""
    logits = logits.float()
    if label.ndim == 2:
        return mixed.loss(lambda target: F.binary_cross_entropy_with_logits(logits, target.float()), label)
    return mixed.loss(lambda target: criterion(logits, target), label)
