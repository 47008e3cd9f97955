"""KoLeo: the embeddings of a batch are spread out (Sablayrolles et al. 2019, arXiv:1806.03198)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.processes.gathering import gathered

TINY = 1e-8  # as published: of norms, of distances, and in their logarithm


def koleo(embeddings: Tensor, index: Tensor) -> Tensor:
    """Return minus the mean log distance to the nearest embedding of another image, on the unit sphere, in float32.

    `embeddings` (B, D) and `index` (B,), the images that they are of: in small sets one may be there twice. A batch of
    one image has no other, and gives 0. It is that of all processes.
    """
    embeddings, index = gathered(embeddings), gathered(index)
    with torch.autocast(embeddings.device.type, enabled=False):
        rows = F.normalize(embeddings.float(), dim=1, eps=TINY)
        other = index[:, None] != index
        with torch.no_grad():
            cosines, nearest = (rows @ rows.T).masked_fill(~other, -2).max(dim=1)
        logs = (F.pairwise_distance(rows, rows[nearest], eps=TINY) + TINY).log()
        return -torch.where(cosines >= -1.5, logs, 0.0).mean()
