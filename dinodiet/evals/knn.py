"""Weighted k-nearest-neighbour classification of embeddings.

Wu et al. 2018 (arXiv:1805.01978), as in the evaluation of DINO (Caron et al. 2021, arXiv:2104.14294).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.ranges import AtLeastOne, Range
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.metrics import measured
from dinodiet.types import DataSpec, Score, Splits

ROWS, COLUMNS = 2**9, 2**15  # test and train images in a tile: its similarities are 64 MiB in float32
GROUPS = (32, 16, 8)  # sizes of groups of columns for which their largest similarity may stand
TIED_ROWS = 64  # with ties, handled at once: 8 MiB of keys


@dataclass(frozen=True, kw_only=True)
class KNN:
    """Each of the k nearest train images by cosine votes exp(similarity / temperature) for its label; votes are summed.

    Several k cost one pass: the first gives `accuracy`, `recall`, `f1`, `auroc` (multi-label: `auroc` alone), another,
    say 10, `accuracy_k10` and so on. `k` and `temperature` are returned as settings, since figures differ with both.

    Raises:
        UserError: the list of k is empty.
    """

    needs: ClassVar[Literal["embeddings"]] = "embeddings"
    k: AtLeastOne[int | list[int]] = 20
    temperature: Annotated[float, Range(0.002, 1e3)] = 0.07  # exp(1 / temperature) has to fit a float64

    def __post_init__(self) -> None:
        if not self.ks:
            raise UserError("k: []; give a whole number of at least 1, or a list of them")

    @property
    def ks(self) -> list[int]:
        """Return all k, the headline first."""
        return self.k if isinstance(self.k, list) else [self.k]

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable for data without labels, and UserError for fewer train images than neighbours."""
        if not spec.labelled:
            raise NotApplicable("needs labels; this dataset has none")
        self._check_k(num_train)

    def _check_k(self, num_train: int) -> None:
        if max(self.ks) > num_train:
            raise UserError(f"k: {max(self.ks)}; there are only {num_train} train images, so at most that")

    def __call__(self, splits: Splits) -> dict[str, Score]:
        """Return the metrics of `test` under the votes of `train`; `val` is not used.

        Raises:
            NotApplicable: a split has no labels.
            UserError: k is larger than the train set.
        """
        train, test = splits.train, splits.test
        known, expected = train.labels, test.labels
        self._check_k(len(train))
        similarity, neighbours = nearest(train.features, test.features, max(self.ks), splits.runtime.device)
        parts = list(zip(similarity.split(ROWS), neighbours.split(ROWS), strict=True))
        found: dict[str, Score] = {}
        for k in self.ks:
            votes = torch.cat([self._votes(near[:, :k], known[at[:, :k]], train.num_labels) for near, at in parts])
            suffix = "" if k == self.ks[0] else f"_k{k}"
            found |= {f"{name}{suffix}": one for name, one in measured(votes, expected).items()}
        settings = {"k": float(self.ks[0]), "temperature": self.temperature}
        return found | {name: Score(value, kind="setting") for name, value in settings.items()}

    def _votes(self, similarity: Tensor, labels: Tensor, num_labels: int) -> Tensor:
        """Return each label's share of the votes, which can be compared between images, as AUROC does; sums cannot."""
        weights = vote_weights(similarity, self.temperature)
        return sum_votes(weights / weights.sum(dim=1, keepdim=True), labels, num_labels)


def nearest(train: Tensor, test: Tensor, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cosine similarity and position of the k train rows nearest to each test row, best first: (len(test), k).

    Of equally near ones those that come first in `train` count. Beside the embeddings and what is returned it needs a
    tile of similarities and its rows and columns, under 200 MiB for 768 features, whatever the numbers of images.
    """
    rows = test.to(device).split(ROWS)
    tile = torch.empty(min(ROWS, len(test)) * min(COLUMNS, _padded(len(train))), device=device)
    best = [(part.new_empty(len(part), 0), part.new_empty(len(part), 0, dtype=torch.int64)) for part in rows]
    for start in range(0, len(train), COLUMNS):
        columns = F.normalize(train[start : start + COLUMNS].to(device), dim=1)
        for i, part in enumerate(rows):
            padded = tile[: len(part) * _padded(len(columns))].view(len(part), -1)
            torch.mm(F.normalize(part, dim=1), columns.T, out=padded[:, : len(columns)])
            similarity, position = largest(padded, min(k, len(columns)), len(columns))
            best[i] = _merge(best[i], (similarity, position + start), k)
    similarities, positions = zip(*best, strict=True)
    return torch.cat(similarities).cpu(), torch.cat(positions).cpu()


def largest(padded: Tensor, k: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the k largest values and their columns among the first `width` columns; of equal ones the first count.

    `padded` has as many columns as `_padded(width)`; those from `width` on are overwritten. The k + 1 largest values of
    a row lie in the k + 1 groups with the largest maxima, so that most columns are read once. Rows in which two of them
    are equal are ranked by value and column together.
    """
    padded[:, width:] = -torch.inf
    size = next((size for size in GROUPS if (k + 1) * size <= width // 8), None)
    if size is None:
        values, columns = padded.topk(min(k + 1, padded.shape[1]), dim=1)
    else:
        groups = padded.view(len(padded), size, -1)  # a group's columns lie far apart: maxima of neighbours at once
        chosen = groups.amax(dim=1).topk(k + 1, dim=1, sorted=False).indices
        members = groups.gather(2, chosen[:, None].expand(-1, size, -1)).flatten(1)
        values, found = members.topk(k + 1, dim=1)
        columns = found // (k + 1) * groups.shape[2] + chosen.gather(1, found % (k + 1))
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1).nonzero()[:, 0]
    values, columns = values[:, :k].contiguous(), columns[:, :k].contiguous()
    for rows in tied.split(TIED_ROWS):
        columns[rows] = _keys(padded[rows, :width]).topk(k, dim=1).indices
        values[rows] = padded[rows].gather(1, columns[rows])
    return values, columns


def _keys(values: Tensor) -> Tensor:
    """Return integers in the order of float32 values (R, C), and of equal ones the first column highest: all differ."""
    bits = (values + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).long()
    return (ordered << 32) - torch.arange(values.shape[1], device=values.device)


def _merge(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of two ranked lists, of equal ones those of the first list first."""
    values, order = torch.cat([first[0], second[0]], dim=1).sort(dim=1, descending=True, stable=True)
    return values[:, :k], torch.cat([first[1], second[1]], dim=1).gather(1, order[:, :k])


def _padded(width: int) -> int:
    """Return the next multiple of the largest group's size."""
    return -(-width // max(GROUPS)) * max(GROUPS)


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
