"""Sinkhorn-Knopp: predictions of a batch that use all prototypes equally (Caron et al. 2020, arXiv:2006.09882)."""

from __future__ import annotations

import torch
from torch import Tensor

from dinodiet.processes.gathering import is_shared, largest, summed


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, iterations: int = 3) -> Tensor:
    """Return probabilities (B, K) of logits (B, K) that are divided by the temperature already, in float32.

    Rows sum to 1, and columns nearly to B / K: each iteration makes the columns equal, then the rows. It works on
    logarithms, in which nothing overflows. The batch is that of all processes, of which each may
    have any number of rows.
    """
    logs = logits.float()
    for _ in range(iterations):
        logs = _equal_columns(logs).log_softmax(dim=1)
    return logs.exp()


def _equal_columns(logs: Tensor) -> Tensor:
    """Return logarithms whose columns sum to 1 over the rows of all processes."""
    if not is_shared():
        return logs.log_softmax(dim=0)
    none = logs.new_full((1, logs.shape[1]), -torch.inf)
    most = largest(torch.cat([logs, none]).amax(dim=0))
    return logs - most - summed((logs - most).exp().sum(dim=0)).log()
