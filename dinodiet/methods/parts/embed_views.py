"""Embeddings of many views of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor


def embed_views(backbone: Callable[[Tensor], Tensor], views: list[Tensor]) -> Tensor:
    """Return the embeddings (views x B, embed_dim) in the views' order, with one forward pass per resolution."""
    groups = (list(group) for _, group in itertools.groupby(views, key=lambda view: view.shape[-1]))
    return torch.cat([backbone(torch.cat(group)) for group in groups])
