"""The projector: an MLP behind the embeddings, in whose output views are compared; thrown away after the training."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import nn

from dinodiet.config.ranges import Fraction, Width


class Projector(nn.Sequential):
    """Embeddings (B, in_dim) -> projections (B, out_dim): linear layers with BatchNorm and ReLU between them.

    SimCLR (Chen et al. 2020, arXiv:2002.05709, section 4.2), BYOL (Grill et al. 2020, arXiv:2006.07733, section 3.2).

    Args:
        in_dim: width of the embeddings.
        hidden_dims: widths of the hidden layers, each followed by BatchNorm and ReLU.
        out_dim: width of the projections.
        bias: the linear layers in front of a BatchNorm have a bias, which it takes away again: for published weights.
        norm_output: a BatchNorm without shift behind the last layer, which then has no bias.
        warmup_fraction: first part of the training in which the projector is trained alone.
    """

    def __init__(
        self,
        in_dim: int,
        *,
        hidden_dims: Sequence[Width[int]] = (2048,),
        out_dim: Width[int] = 128,
        bias: bool = False,
        norm_output: bool = False,
        warmup_fraction: Fraction[float] = 0.0,
    ) -> None:
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([in_dim, *hidden_dims]):
            layers += [nn.Linear(before, after, bias=bias), nn.BatchNorm1d(after), nn.ReLU()]
        layers.append(nn.Linear(hidden_dims[-1] if hidden_dims else in_dim, out_dim, bias=not norm_output))
        if norm_output:
            layers.append(nn.BatchNorm1d(out_dim))
            layers[-1].register_parameter("bias", None)
        super().__init__(*layers)
        self.out_dim, self.warmup_fraction = out_dim, warmup_fraction
