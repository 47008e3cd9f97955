"""A classifier of labels on embeddings, and its loss."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.config.ranges import Fraction, Positive, Range, Width
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mixed
from dinodiet.types import DataSpec

Norm = Literal["none", "layer", "batch"]


class Classifier(nn.Module):
    """Embeddings (B, in_dim) -> logits (B, labels), by a linear layer or by two with a ReLU between them.

    Args:
        in_dim: width of the embeddings.
        spec: facts about the data: the number of labels.
        hidden_dim: None, or the width of the hidden layer.
        input_scale: what the embeddings are multiplied by before all else.
        norm: of the embeddings: none, a layer norm, or a batch norm without affine parameters.
        init_std: the deviation of the first weights of the last layer, whose biases are 0 then; None: torch's.
        lr_scale: the learning rate of the classifier over the backbone's.
        warmup_fraction: first part of the training in which the classifier is trained alone.
    """

    def __init__(
        self,
        in_dim: int,
        spec: DataSpec,
        *,
        hidden_dim: Width[int | None] = None,
        norm: Norm = "none",
        init_std: Positive[float | None] = None,
        lr_scale: Annotated[float, Range(0, 1000)] = 1.0,
        warmup_fraction: Fraction[float] = 0.0,
        input_scale: Positive[float] = 1.0,
    ) -> None:
        super().__init__()
        self.input_scale = input_scale
        self.lr_scale, self.warmup_fraction = lr_scale, warmup_fraction
        hidden = [] if hidden_dim is None else [nn.Linear(in_dim, hidden_dim), nn.ReLU()]
        self.norm = _NORMS[norm](in_dim)
        self.layers = nn.Sequential(*hidden, nn.Linear(hidden_dim or in_dim, spec.num_labels))
        if init_std is not None:
            nn.init.trunc_normal_(self.last.weight, std=init_std)
            nn.init.zeros_(self.last.bias)

    @property
    def last(self) -> nn.Linear:
        """Return the layer that gives the logits."""
        layer = self.layers[-1]
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the logits (B, labels)."""
        logits: Tensor = self.layers(self.norm(embeddings if self.input_scale == 1 else embeddings * self.input_scale))
        return logits


_NORMS: dict[Norm, Callable[[int], nn.Module]] = {
    "none": lambda width: nn.Identity(),
    "layer": functools.partial(nn.LayerNorm, eps=1e-6),
    "batch": functools.partial(nn.BatchNorm1d, affine=False, eps=1e-6),
}


def label_loss(logits: Tensor, label: Tensor, mixed: Mixed, criterion: CrossEntropy) -> Tensor:
    """Return the mean loss of logits (B, L): of classes int64 (B,) the criterion's, of labels (B, L) the binary one."""
    logits = logits.float()
    if label.ndim == 2:
        return mixed.loss(lambda target: F.binary_cross_entropy_with_logits(logits, target.float()), label)
    return mixed.loss(lambda target: criterion(logits, target), label)
