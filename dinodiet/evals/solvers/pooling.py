"""Attention over tokens and a classifier on what it pools: several probes side by side, on the same tokens.

A probe's parameters are one row of tensors with R rows, for R candidates of training settings. All rows start equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.config.ranges import AtLeastOne
from dinodiet.errors import UserError

EPS = 1e-6  # of the batch norm
HEAD_STD = 0.01  # of a classifier's first weights, as in linear evaluations (He et al. 2020)


class Probes(nn.Module):
    """R probes: tokens (B, T, D) -> logits (R, B, K)."""

    def __call__(self, tokens: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = super().__call__(tokens)
        return logits


class Pooling(Protocol):
    """How a probe pools tokens."""

    def check(self, width: int) -> None:
        """Refuse tokens of a width that cannot be pooled.

        Raises:
            UserError: one line that says which settings fit.
        """
        ...

    def probes(self, count: int, width: int, num_labels: int, generator: torch.Generator) -> Probes:
        """Return `count` equal probes of tokens of that width."""
        ...


@dataclass(frozen=True, kw_only=True)
class EfficientProbing:
    """Efficient probing (Psomas et al. 2026, arXiv:2506.10178): `queries` learned queries, without key projection.

    D must be a multiple of `queries`.
    """

    queries: AtLeastOne[int] = 32

    def check(self, width: int) -> None:
        """Raise UserError where the width is no multiple of `queries`."""
        if width % self.queries:
            fit = ", ".join(str(number) for number in range(1, width + 1) if width % number == 0)
            raise UserError(f"pooling: queries {self.queries} do not divide the width {width} of tokens; choose: {fit}")

    def probes(self, count: int, width: int, num_labels: int, generator: torch.Generator) -> EfficientProbes:
        """Return `count` equal probes."""
        return EfficientProbes(count, width, num_labels, self.queries, generator)


class EfficientProbes(Probes):
    """Query j weighs the tokens x by the softmax of q_j x / sqrt(D), and pools slice j of their values V x.

    The slices side by side are D numbers: batch norm without weights, and a linear classifier. Tokens are pooled before
    they are mapped, which is the same, as V is linear, and costs T times less.
    """

    def __init__(self, count: int, width: int, num_labels: int, queries: int, generator: torch.Generator) -> None:
        super().__init__()
        slices = torch.empty(queries, width // queries, width)
        self.queries = _rows(0.02 * torch.randn(queries, width, generator=generator), count)
        self.values = _rows(slices.uniform_(-(width**-0.5), width**-0.5, generator=generator), count)  # as nn.Linear
        self.weight = _rows(HEAD_STD * torch.randn(num_labels, width, generator=generator), count)
        self.bias = _rows(torch.zeros(num_labels), count)
        self.register_buffer("mean", torch.zeros(count, width))
        self.register_buffer("variance", torch.ones(count, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (R, B, K)."""
        normal = self._normalised(self.pooled(tokens))
        return torch.einsum("rbd,rkd->rbk", normal, self.weight) + self.bias[:, None]

    def pooled(self, tokens: Tensor) -> Tensor:
        """Return the slices side by side: (R, B, D)."""
        scores = torch.einsum("btd,rqd->brqt", tokens, self.queries) * tokens.shape[2] ** -0.5
        pooled = torch.einsum("brqt,btd->rqbd", scores.softmax(dim=-1), tokens)
        slices = torch.einsum("rqbd,rqed->rbqe", pooled, self.values)
        return slices.flatten(2)

    def _normalised(self, pooled: Tensor) -> Tensor:
        rows = pooled.transpose(0, 1).flatten(1)
        mean, variance = self.get_buffer("mean").view(-1), self.get_buffer("variance").view(-1)
        normal = F.batch_norm(rows, mean, variance, training=self.training, eps=EPS)
        return normal.view(len(rows), *self.weight.shape[::2]).transpose(0, 1)


@dataclass(frozen=True, kw_only=True)
class ABMILP:
    """Selective aggregation (Przewiezlikowski et al. 2024, arXiv:2412.03215), depth 1: one weight a token.

    The weighted mean of the tokens has length 1; a linear classifier reads it.
    """

    def check(self, width: int) -> None:
        """Take every width."""

    def probes(self, count: int, width: int, num_labels: int, generator: torch.Generator) -> ABMILProbes:
        """Return `count` equal probes."""
        return ABMILProbes(count, width, num_labels, generator)


class ABMILProbes(Probes):
    """A token's weight is the softmax of a linear map to one number."""

    def __init__(self, count: int, width: int, num_labels: int, generator: torch.Generator) -> None:
        super().__init__()
        self.attention = _rows(torch.empty(width).uniform_(-(width**-0.5), width**-0.5, generator=generator), count)
        self.weight = _rows(HEAD_STD * torch.randn(num_labels, width, generator=generator), count)
        self.bias = _rows(torch.zeros(num_labels), count)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits (R, B, K)."""
        weights = torch.einsum("btd,rd->rbt", tokens, self.attention).softmax(dim=-1)
        pooled = F.normalize(torch.einsum("rbt,btd->rbd", weights, tokens), dim=2)
        return torch.einsum("rbd,rkd->rbk", pooled, self.weight) + self.bias[:, None]


def _rows(values: Tensor, count: int) -> nn.Parameter:
    return nn.Parameter(values.expand(count, *values.shape).clone())
