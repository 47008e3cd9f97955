"""Small embeddings with known structure."""

from __future__ import annotations

import torch

from dinodiet.evals.splits import GivenSplits
from dinodiet.types import EmbeddingEvaluator, Embeddings


def blobs(count: int, num_labels: int = 3, dim: int = 8, noise: float = 1.0, seed: int = 0) -> Embeddings:
    """Normal clouds around class centres that do not depend on the seed; classes in turn."""
    centres = torch.randn(num_labels, dim, generator=torch.Generator().manual_seed(99))
    labels = torch.arange(count) % num_labels
    features = centres[labels] + noise * torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    return Embeddings(features, labels, num_labels)


def tags(count: int, num_labels: int = 3, dim: int = 8, noise: float = 0.5, seed: int = 0) -> Embeddings:
    """Multi-label: label l is the sign of feature l, before noise."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, dim, generator=generator)
    labels = (features[:, :num_labels] > 0).long()
    return Embeddings(
        features + noise * torch.randn(count, dim, generator=generator), labels, num_labels, multilabel=True
    )


def values(
    evaluator: EmbeddingEvaluator, train: Embeddings, test: Embeddings, val: Embeddings | None = None
) -> dict[str, float]:
    """Return the values of an evaluator's scores and settings by name."""
    return {name: score.value for name, score in evaluator(GivenSplits(train, test, val)).items()}
