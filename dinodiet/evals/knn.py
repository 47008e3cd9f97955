"""Weighted k-nearest-neighbour classification of embeddings.

Wu et al. 2018 (arXiv:1805.01978), as in the evaluation of DINO (Caron et al. 2021, arXiv:2104.14294).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.ranges import AtLeastOne, NonNegative, Range
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.metrics import measured
from dinodiet.evals.normalize import Normalize, normalizer
from dinodiet.evals.votes import Metric, Votes, by_distance, inverse_distances, sum_votes, vote_weights
from dinodiet.types import DataSpec, Score, Splits

ROWS, COLUMNS = 2**9, 2**15  # test and train images in a tile: its similarities are 64 MiB in float32
GROUPS = (32, 16, 8)  # sizes of groups of columns for which their largest similarity may stand
TIED_ROWS = 64  # with ties, handled at once: 8 MiB of keys


@dataclass(frozen=True, kw_only=True)
class KNN:
    """Each of the k nearest train images votes for its label; votes are summed.

    `metric` says which are the nearest, and the distance: 1 - cosine, or Euclidean between features as they are.
    `normalize` says what is done to features first: `standardize` by train's mean and deviation, `l2`, or `none`.
    `votes` says how much a neighbour counts: `similarity` exp(cosine / temperature); `inverse_distance`
    1 / (distance + offset), where one at distance 0 silences all others if there is no offset; `uniform` 1. Of labels
    with equal votes the smallest is predicted.

    Several k cost one pass: the first gives `accuracy`, `recall`, `f1`, `auroc` (multi-label: `auroc` alone), another,
    say 10, `accuracy_k10` and so on. `k`, and the `temperature` or `offset` of the votes, are returned as settings,
    since figures differ with them.

    Raises:
        UserError: the list of k is empty, or settings exclude each other.
    """

    needs: ClassVar[Literal["embeddings"]] = "embeddings"
    fits_labels: ClassVar[bool] = True
    k: AtLeastOne[int | list[int]] = 20
    temperature: Annotated[float, Range(0.002, 1e3)] = 0.07  # exp(1 / temperature) has to fit a float64

    votes: Votes = "similarity"
    metric: Metric = "cosine"
    offset: NonNegative[float] = 0.0
    normalize: Normalize = "none"

    def __post_init__(self) -> None:
        if not self.ks:
            raise UserError("k: []; give a whole number of at least 1, or a list of them")
        if self.votes == "similarity" and self.metric != "cosine":
            raise UserError(f"votes: similarity is the cosine, not {self.metric}; choose inverse_distance or uniform")
        if self.offset and self.votes != "inverse_distance":
            raise UserError(f"offset: {self.offset:g} belongs to votes=inverse_distance, not to {self.votes}; choose 0")

    @property
    def ks(self) -> list[int]:
        """Return all k, the headline first."""
        return self.k if isinstance(self.k, list) else [self.k]

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable for data without labels, and UserError for fewer train images than neighbours."""
        if not spec.labelled:
            raise NotApplicable("needs labels; this dataset has none")
        check_k(max(self.ks), num_train)

    def __call__(self, splits: Splits) -> dict[str, Score]:
        """Return the metrics of `test` under the votes of `train`; `val` is not used.

        Raises:
            NotApplicable: a split has no labels.
            UserError: k is larger than the train set.
        """
        found: dict[str, Score] = {}
        for k, shares in self.shares(splits):
            suffix = "" if k == self.ks[0] else f"_k{k}"
            found |= {f"{name}{suffix}": one for name, one in measured(shares, splits.test.labels).items()}
        rule = {"similarity": {"temperature": self.temperature}, "inverse_distance": {"offset": self.offset}}
        settings = {"k": float(self.ks[0]), **rule.get(self.votes, {})}
        return found | {name: Score(value, kind="setting") for name, value in settings.items()}

    def shares(self, splits: Splits) -> Iterator[tuple[int, Tensor]]:
        """Yield each k, and the shares of the votes that labels have for each test image, float64 (N, num_labels).

        Raises:
            NotApplicable: `train` has no labels.
            UserError: k is larger than the train set.
        """
        train, known = splits.train, splits.train.labels
        check_k(max(self.ks), len(train))
        normalized = normalizer(self.normalize, train.features)
        device = splits.runtime.device
        weights, neighbours = self._weighted(normalized(train.features), normalized(splits.test.features), device)
        parts = list(zip(weights.split(ROWS), neighbours.split(ROWS), strict=True))
        for k in self.ks:
            yield k, torch.cat([_shares(part[:, :k], known[at[:, :k]], train.num_labels) for part, at in parts])

    def _weighted(self, train: Tensor, test: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return what each neighbour of the test images counts, float64 (N, k), and its position in train."""
        similarity, neighbours = nearest(train, test, max(self.ks), device, self.metric)
        if self.votes == "similarity":
            return vote_weights(similarity, self.temperature), neighbours
        if self.votes == "uniform":
            return torch.ones_like(similarity, dtype=torch.float64), neighbours
        distance, neighbours = by_distance(train, test, neighbours, self.metric)
        return inverse_distances(distance, self.offset), neighbours


def check_k(k: int, num_train: int) -> None:
    """Refuse more neighbours than there are.

    Raises:
        UserError: there are fewer train images.
    """
    if k > num_train:
        raise UserError(f"k: {k}; there are only {num_train} train images, so at most that")


def _shares(weights: Tensor, labels: Tensor, num_labels: int) -> Tensor:
    """Return each label's share of the votes, which can be compared between images, as AUROC does; sums cannot."""
    return sum_votes(weights / weights.sum(dim=1, keepdim=True), labels, num_labels)


def nearest(
    train: Tensor, test: Tensor, k: int, device: torch.device, metric: Metric = "cosine"
) -> tuple[Tensor, Tensor]:
    """Return similarity and position of the k train rows nearest to each test row, best first: (len(test), k).

    The similarity is the cosine; of the Euclidean metric half of |test|^2 - distance^2, which ranks alike. Of equally
    near ones those that come first in `train` count. Beside the embeddings (Euclidean: a copy of them) and what is
    returned it needs a tile of similarities and its rows and columns, under 200 MiB for 768 features.
    """
    if metric == "euclidean":  # no distance depends on the origin, but the rounding of products does
        centre = train.mean(dim=0)
        train, test = train - centre, test - centre
    rows = test.to(device).split(ROWS)
    tile = torch.empty(min(ROWS, len(test)) * min(COLUMNS, _padded(len(train))), device=device)
    best = [(part.new_empty(len(part), 0), part.new_empty(len(part), 0, dtype=torch.int64)) for part in rows]
    for start in range(0, len(train), COLUMNS):
        columns = _known(train[start : start + COLUMNS].to(device), metric)
        for i, part in enumerate(rows):
            padded = tile[: len(part) * _padded(len(columns))].view(len(part), -1)
            torch.mm(_asked(part, metric), columns.T, out=padded[:, : len(columns)])
            similarity, position = largest(padded, min(k, len(columns)), len(columns))
            best[i] = _merge(best[i], (similarity, position + start), k)
    similarities, positions = zip(*best, strict=True)
    return torch.cat(similarities).cpu(), torch.cat(positions).cpu()


def _known(rows: Tensor, metric: Metric) -> Tensor:
    """Return train rows as their products with `_asked` rows are similarities."""
    if metric == "cosine":
        return F.normalize(rows, dim=1)
    return torch.cat([rows, -rows.square().sum(dim=1, keepdim=True) / 2], dim=1)


def _asked(rows: Tensor, metric: Metric) -> Tensor:
    return F.normalize(rows, dim=1) if metric == "cosine" else F.pad(rows, (0, 1), value=1.0)


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
