"""Heads: what is trained on top of the backbone, for one loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.config.ranges import BelowOne, Fraction, NonNegative, Range, Width
from dinodiet.config.signature import Neutral
from dinodiet.methods.parts import dino_defaults
from dinodiet.methods.parts.class_rows import Sharded, class_rows, shard_in
from dinodiet.methods.parts.cross_entropy import ClassLogits
from dinodiet.methods.parts.prototype_head import PrototypeHead, hidden_layers, initialise
from dinodiet.types import DataSpec


class ClassHead(nn.Module):
    """DIET's head: embeddings (B, in_dim) -> unit features -> logits of many classes, by a linear layer without bias.

    Args:
        in_dim: width of the embeddings.
        num_classes: number of classes.
        projection_dim: None, or the width of a two-layer projector in front of the linear layer.
        logit_scale: factor on the logits (an inverse temperature).
        lr_scale: the learning rate of all heads over the backbone's.
        warmup_fraction: first part of the training in which the heads are trained alone.
        sharded: whether every one of several processes holds a part of the classes; auto: where they are large.
    """

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        projection_dim: Width[int | None] = None,
        logit_scale: Annotated[float, Range(0, 1e4, open_low=True)] = 1.0,
        lr_scale: Annotated[float, Range(0, 1000)] = 1.0,
        warmup_fraction: Fraction[float] = 0.05,
        sharded: Neutral[Sharded] = "auto",
    ) -> None:
        super().__init__()
        self.logit_scale, self.lr_scale, self.warmup_fraction = logit_scale, lr_scale, warmup_fraction
        self.projector = _projector(in_dim, projection_dim)
        self.linear = class_rows(projection_dim or in_dim, num_classes, sharded)

    def forward(self, embeddings: Tensor) -> ClassLogits:
        """Return the logits (B, num_classes), which a large head never holds all at once."""
        features = F.normalize(self.projector(embeddings), dim=1)
        return ClassLogits(features, self.linear.weight, scale=self.logit_scale, shard=shard_in(self.linear))


class ProjectedClassHead(nn.Module):
    """Unit embeddings (B, in_dim) -> projections -> logits of many classes: DIET's head in an earlier form.

    The head of github.com/jakobamb/DIET_Tuning in April 2025: the embedding is normalised, and what the projector
    (linear, BatchNorm, ReLU, dropout, linear) makes of it is not. Arguments as in `ClassHead`; `dropout` is the
    projector's.
    """

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        projection_dim: Width[int] = 256,
        dropout: BelowOne[float] = 0.1,
        logit_scale: Annotated[float, Range(0, 1e4, open_low=True)] = 1 / 3,
        lr_scale: Annotated[float, Range(0, 1000)] = 1.0,
        warmup_fraction: Fraction[float] = 0.0,
        sharded: Neutral[Sharded] = "auto",
    ) -> None:
        super().__init__()
        self.logit_scale, self.lr_scale, self.warmup_fraction = logit_scale, lr_scale, warmup_fraction
        first, last = nn.Linear(in_dim, in_dim), nn.Linear(in_dim, projection_dim)
        self.projector = nn.Sequential(first, nn.BatchNorm1d(in_dim), nn.ReLU(), nn.Dropout(dropout), last)
        self.linear = class_rows(projection_dim, num_classes, sharded)

    def forward(self, embeddings: Tensor) -> ClassLogits:
        """Return the logits (B, num_classes), which a large head never holds all at once."""
        features = self.projector(F.normalize(embeddings, dim=1))
        return ClassLogits(features, self.linear.weight, scale=self.logit_scale, shard=shard_in(self.linear))


def _projector(in_dim: int, projection_dim: int | None) -> nn.Module:
    if projection_dim is None:
        return nn.Identity()
    return nn.Sequential(nn.Linear(in_dim, in_dim), nn.GELU(), nn.Linear(in_dim, projection_dim))


class WeightNormLinear(nn.Module):
    """A linear layer without bias whose weight is g v / |v| by row; g starts at 1 and is trained only on request.

    The parameters keep the names `weight_g` (out, 1) and `weight_v` (out, in) of published checkpoints. Unlike torch's
    weight norm of old, which has these names, the module can be deep-copied.
    """

    def __init__(self, in_features: int, out_features: int, *, train_gain: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out_features, 1), requires_grad=train_gain)
        self.weight_v = nn.Parameter(nn.Linear(in_features, out_features, bias=False).weight.detach())

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, in) to (B, out)."""
        norms = self.weight_v.norm(dim=1, keepdim=True)
        return F.linear(features, self.weight_v * (self.weight_g / norms))


class DINOHead(PrototypeHead):
    """Embeddings (B, in_dim) -> logits (B, out_dim): MLP, L2-normalised bottleneck, weight-normalised last layer.

    The head of DINO (Caron et al. 2021, arXiv:2104.14294, section 3.1).

    Args:
        in_dim: width of the embeddings.
        spec: facts about the data, from which `out_dim` and the freeze of the last layer are chosen.
        out_dim: number of prototypes; None: by the number of images; labels: one a label.
        hidden_dims: widths of the MLP's hidden layers.
        bottleneck_dim: width of the normalised features that are compared with the prototypes.
        use_bn: a BatchNorm behind each hidden layer.
        norm_last_layer: keeps the gains of the last layer at 1, so that every prototype has norm 1.
        freeze_epochs, freeze_steps: how long the last layer is not trained; None (both): by the training's length.
        warmup_fraction: first part of the training in which the head is trained alone.

    Raises:
        UserError: the freeze is given in two units.
    """

    activation: ClassVar[type[nn.Module]] = nn.GELU  # behind each hidden layer

    def __init__(
        self,
        in_dim: int,
        spec: DataSpec,
        *,
        out_dim: Annotated[int | Literal["labels"] | None, Range(1, 2**18)] = None,
        hidden_dims: Sequence[Width[int]] = (2048, 2048),
        bottleneck_dim: Width[int] = 256,
        use_bn: bool = False,
        norm_last_layer: bool = True,
        freeze_epochs: NonNegative[float | None] = None,
        freeze_steps: NonNegative[int | None] = None,
        warmup_fraction: Fraction[float] = 0.0,
    ) -> None:
        super().__init__(
            dino_defaults.outputs(out_dim, spec),
            freeze_epochs=freeze_epochs,
            freeze_steps=freeze_steps,
            warmup_fraction=warmup_fraction,
        )
        layers = hidden_layers([in_dim, *hidden_dims], self.activation, use_bn=use_bn)
        self.mlp = nn.Sequential(*layers, nn.Linear([in_dim, *hidden_dims][-1], bottleneck_dim))
        initialise(self.mlp)
        self.last_layer = WeightNormLinear(bottleneck_dim, self.out_dim, train_gain=not norm_last_layer)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the logits: scaled cosines between the bottleneck and the prototypes."""
        logits: Tensor = self.last_layer(F.normalize(self.mlp(embeddings), dim=-1, eps=1e-12))
        return logits

    def prototypes(self) -> Iterable[Tensor]:
        """Return the parameters of the last layer."""
        return self.last_layer.parameters()


class SELUHead(DINOHead):
    """A `DINOHead` with SELU (Klambauer et al. 2017, arXiv:1706.02515), as LowDINO has it."""

    activation = nn.SELU
