"""Weighted k-nearest-neighbour classification of embeddings.

Wu et al. 2018 (arXiv:1805.01978), as in the evaluation of DINO (Caron et al. 2021, arXiv:2104.14294).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.environment import pick_device
from dinodiet.errors import UserError
from dinodiet.evals.metrics import score
from dinodiet.types import Embeddings

SIMILARITIES_AT_ONCE = 2**24  # 64 MiB in float32, whatever the numbers of train and test images


@dataclass(frozen=True, kw_only=True)
class KNN:
    """Each of the k nearest train images by cosine votes exp(similarity / temperature) for its label; votes are summed.

    Several k cost one pass: the first gives `accuracy`, `f1`, `auroc` (multi-label: `auroc` alone), another, say 10,
    `accuracy_k10` and so on. `k` and `temperature` are returned beside them, as figures differ with both.

    Raises:
        UserError: k or temperature is out of range.
    """

    k: int | list[int] = 20
    temperature: float = 0.07
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1:
            raise UserError(f"eval.knn.k: {self.k}; give a whole number of at least 1, or a list of them")
        if self.temperature < 0.002:  # exp(1 / temperature) has to fit a float64
            raise UserError(f"eval.knn.temperature: {self.temperature}; must be at least 0.002")
        pick_device(self.device)

    @property
    def ks(self) -> list[int]:
        """Return all k, the headline first."""
        return self.k if isinstance(self.k, list) else [self.k]

    def check(self, num_train: int, num_labels: int, multilabel: bool) -> None:
        """Raise UserError if there are fewer train images than neighbours."""
        if max(self.ks) > num_train:
            raise UserError(f"eval.knn.k: {max(self.ks)}; there are only {num_train} train images, so at most that")

    def __call__(self, train: Embeddings, test: Embeddings, val: Embeddings | None = None) -> dict[str, float]:
        """Return the metrics of `test` under the votes of `train`; `val` is not used.

        Raises:
            UserError: k is larger than the train set.
        """
        self.check(len(train), train.num_labels, train.multilabel)
        similarity, neighbours = nearest(train.features, test.features, max(self.ks), pick_device(self.device))
        labels = train.labels[neighbours]
        metrics: dict[str, float] = {}
        for k in self.ks:
            weights = vote_weights(similarity[:, :k], self.temperature)
            # Shares of the votes can be compared between images, which AUROC does; sums cannot.
            votes = sum_votes(weights / weights.sum(dim=1, keepdim=True), labels[:, :k], train.num_labels)
            suffix = "" if k == self.ks[0] else f"_k{k}"
            metrics |= {f"{name}{suffix}": value for name, value in score(votes, test.labels).items()}
        return metrics | {"k": float(self.ks[0]), "temperature": self.temperature}


def nearest(train: Tensor, test: Tensor, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosine similarity and position of the k train rows nearest to each test row, best first: (len(test), k).

    Memory grows with len(train) + len(test) and not with their product.
    """
    train = F.normalize(train.to(device), dim=1)
    similarity, position = [], []
    for rows in torch.split(test, max(1, SIMILARITIES_AT_ONCE // len(train))):
        found = (F.normalize(rows.to(device), dim=1) @ train.T).topk(k, dim=1)
        similarity.append(found.values.cpu())
        position.append(found.indices.cpu())
    return torch.cat(similarity), torch.cat(position)


def vote_weights(similarity: Tensor, temperature: float) -> Tensor:
    """Return exp(similarity / temperature) in float64."""
    return (similarity.double() / temperature).exp()


def sum_votes(weights: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """Return the summed votes (N, num_labels) of k neighbours with weights (N, k).

    Their labels are classes (N, k), or 0 and 1 (N, k, num_labels).
    """
    if labels.ndim == 3:
        return torch.einsum("nk,nkl->nl", weights, labels.to(weights.dtype))
    return weights.new_zeros(len(weights), num_labels).scatter_add_(1, labels, weights)
