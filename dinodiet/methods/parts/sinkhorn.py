"""Sinkhorn-Knopp: predictions of a batch that use all prototypes equally (Caron et al. 2020, arXiv:2006.09882)."""

from __future__ import annotations

import torch
from torch import Tensor

from dinodiet.processes.gathering import gathered, rank, size
from dinodiet.processes.rows import Share


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, iterations: int = 3) -> Tensor:
    """Return probabilities (B, K) of logits (B, K) that are divided by the temperature already, in float32.

    Rows sum to 1, and columns nearly to B / K: each iteration makes the columns equal, then the rows. It works on
    logarithms, in which nothing overflows. The batch is that of all processes.
    """
    logs = gathered(logits.float())
    for _ in range(iterations):
        logs = logs.log_softmax(dim=0).log_softmax(dim=1)
    return Share(rank(), size()).of(logs.exp())
