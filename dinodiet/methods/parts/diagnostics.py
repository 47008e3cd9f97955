"""What shows collapse: the rank of the embeddings and the entropy of predictions."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.processes.gathering import gathered


@torch.no_grad()
def effective_rank(embeddings: Tensor) -> float:
    """Return exp(entropy of the normalised singular values) of embeddings (B, D), between 1 and min(B, D).

    RankMe (Garrido et al. 2023, arXiv:2210.02885). It is 0 where all embeddings are zero and NaN where any is not
    finite. Computed in float32, of the rows of all processes.
    """
    embeddings = gathered(embeddings.float())
    if not embeddings.isfinite().all():
        return math.nan
    values = torch.linalg.svdvals(embeddings)
    total = values.sum()
    return math.exp(entropy(values / total).item()) if total > 0 else 0.0


@torch.no_grad()
def spread(projections: Tensor) -> float:
    """Return the mean standard deviation of a dimension of the normalised projections (B, D), times sqrt(D).

    About 1 where they point in all directions, 0 where all are one (Chen and He 2021, arXiv:2011.10566, section 4.1).
    The rows are those of all processes.
    """
    rows = F.normalize(gathered(projections.float()), dim=1)
    return float(rows.std(0, correction=0).mean()) * math.sqrt(rows.shape[1])


def entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy in nats over the last dimension; a probability of 0 contributes 0."""
    terms: Tensor = torch.special.entr(probabilities)
    return terms.sum(-1)
