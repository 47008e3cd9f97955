"""What shows collapse: the rank of the embeddings and the entropy of predictions."""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> float:
    """Return exp(entropy of the normalised singular values) of embeddings (B, D), between 1 and min(B, D).

    RankMe (Garrido et al. 2023, arXiv:2210.02885). It is 0 where all embeddings are zero and NaN where any is not
    finite. Computed in float32.
    """
    embeddings = embeddings.float()
    if not embeddings.isfinite().all():
        return math.nan
    values = torch.linalg.svdvals(embeddings)
    total = values.sum()
    return math.exp(entropy(values / total).item()) if total > 0 else 0.0


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy in nats over the last dimension; a probability of 0 contributes 0."""
    terms: Tensor = torch.special.entr(probabilities)
    return terms.sum(-1)
