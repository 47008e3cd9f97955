"""DINO's projection head and its weight-normalised last layer (Caron et al. 2021, arXiv:2104.14294)."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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


class DINOHead(nn.Module):
    """Embeddings (B, in_dim) -> logits (B, out_dim): MLP, L2-normalised bottleneck, weight-normalised last layer.

    `num_layers` counts the MLP's linear layers, the one into the bottleneck included; `use_bn` puts a BatchNorm behind
    each hidden one. `norm_last_layer` keeps the gains of the last layer at 1: every prototype has norm 1.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        num_layers: int = 3,
        use_bn: bool = False,
        norm_last_layer: bool = True,
    ) -> None:
        super().__init__()
        widths = [in_dim] + [hidden_dim] * (num_layers - 1)
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(widths):
            layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if use_bn else []), nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(widths[-1], bottleneck_dim))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = WeightNormLinear(bottleneck_dim, out_dim, train_gain=not norm_last_layer)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the logits: scaled cosines between the bottleneck and the prototypes."""
        logits: Tensor = self.last_layer(F.normalize(self.mlp(embeddings), dim=-1, eps=1e-12))
        return logits
