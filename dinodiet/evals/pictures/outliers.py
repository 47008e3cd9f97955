"""Images that lie apart, and labels that their neighbours contradict: what to look at first in a set of one's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from dinodiet.config.ranges import Range
from dinodiet.errors import NotApplicable
from dinodiet.evals.knn import nearest
from dinodiet.evals.pictures.names import image_names, label_name
from dinodiet.evals.pictures.sheet import contact_sheet, write_picture
from dinodiet.evals.votes import sum_votes
from dinodiet.io.files import write_csv
from dinodiet.types import DataSpec, Embeddings, EncoderSplits, Score

TABLE, APART, CONTRADICTED = "outliers.csv", "apart.png", "contradicted.png"
HEADS = ("why", "rank", "image", "file", "distance", "label", "contradicted", "suggested")
ROWS = 2**13  # images whose neighbours vote at once: 64 MiB for 1,000 classes


@dataclass(frozen=True, kw_only=True)
class Outliers:
    """Of each train image: its mean cosine distance to its k nearest ones, and the share of them with another label.

    The table ranks the `images` furthest apart, and `images` of those whose label most neighbours contradict, with file
    names and the label that these have; two contact sheets show them. Of equally contradicted images the one whose
    neighbours are nearer comes first. Multi-label sets have distances alone.
    """

    needs: ClassVar[Literal["encoder"]] = "encoder"
    of_train: ClassVar[bool] = True
    k: Annotated[int, Range(1, 10**4)] = 20
    images: Annotated[int, Range(1, 10**4)] = 64

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable for too few train images to have k neighbours; labels are not needed."""
        if num_train <= self.k:
            raise NotApplicable(f"needs more than k={self.k} train images; there are {num_train}")

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return the mean distance, and the share of labels that most neighbours contradict; write table and sheets."""
        train = splits.train
        distances, neighbours = apart(train.features, self.k, splits.runtime.device)
        labelled = train.labels_or_none is not None and not train.multilabel
        contradictions = contradicted(train, neighbours) if labelled else None
        if splits.folder is not None:
            _write(splits.folder, splits, Ranked(distances, contradictions, splits.spec.classes), self.images)
        found = {"distance": Score(float(distances.mean()), better="none")}
        if contradictions is not None:
            found["contradicted"] = Score(float(contradictions.are_contradicted.double().mean()), better="lower")
        return {**found, "k": Score(self.k, kind="setting")}


@dataclass(frozen=True)
class Contradictions:
    """Of each image (N,): the share of neighbours with another label, the label of most, and its own."""

    share: Tensor
    suggested: Tensor
    labels: Tensor

    @property
    def are_contradicted(self) -> Tensor:
        """Return whether most neighbours have another label, (N,)."""
        return self.suggested != self.labels


@dataclass(frozen=True)
class Ranked:
    """What is known of each image, and in which order it is to be looked at; `classes` name labels."""

    distances: Tensor
    contradictions: Contradictions | None
    classes: tuple[str, ...] | None

    def orders(self, number: int) -> dict[str, Tensor]:
        """Return the positions of the worst images, by the contact sheet that shows them."""
        orders = {APART: largest_first(self.distances, number)}
        if self.contradictions is not None:
            by_distance = torch.sort(self.distances, stable=True).indices
            worst = by_distance[largest_first(self.contradictions.share[by_distance], len(by_distance))]
            orders[CONTRADICTED] = worst[self.contradictions.are_contradicted[worst]][:number]
        return orders

    def cells(self, place: int) -> list[str]:
        """Return distance, label, share of neighbours that contradict it, and the label of most; empty: unknown."""
        distance, known = f"{self.distances[place]:.6f}", self.contradictions
        if known is None:
            return [distance, "", "", ""]
        label, suggested = (label_name(of, place, self.classes) for of in (known.labels, known.suggested))
        return [distance, label, f"{known.share[place]:.4f}", suggested]

    def told(self, sheet: str, place: int) -> str:
        """Return why an image is on a sheet, in words."""
        distance, label, _, suggested = self.cells(place)
        return f"distance {float(distance):.3f}" if sheet == APART else f"{label}, not {suggested}?"


def _write(folder: Path, splits: EncoderSplits, ranked: Ranked, number: int) -> None:
    """Write the table and a sheet for each reason to look at an image."""
    images, rows = splits.train_images, list[list[object]]()
    for sheet, order in ranked.orders(number).items():
        places = order.tolist()
        names = image_names(images, places, "train")
        captions = [f"{name}\n{ranked.told(sheet, place)}" for name, place in zip(names, places, strict=True)]
        write_picture(folder / sheet, contact_sheet(images, order, captions))
        for rank, (name, place) in enumerate(zip(names, places, strict=True), start=1):
            rows.append([sheet.removesuffix(".png"), rank, place, name, *ranked.cells(place)])
    write_csv(folder / TABLE, HEADS, rows)


def apart(features: Tensor, k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the mean cosine distance of each row to its k nearest other ones, (N,), and their positions, (N, k).

    A row of zeros is at distance 1 from all.
    """
    similarities, neighbours = nearest(features, features, k + 1, device)
    own = neighbours == torch.arange(len(features))[:, None]
    own[~own.any(1), -1] = True  # equal images push it out: then the last one is left out
    others = (~own).nonzero()[:, 1].view(len(features), k)
    return (1 - similarities.gather(1, others)).clamp(min=0).double().mean(1), neighbours.gather(1, others)


def contradicted(train: Embeddings, neighbours: Tensor) -> Contradictions:
    """Return how far the neighbours of each image contradict its label; of equally many the smallest is suggested."""
    labels, shares, suggested = train.labels, list[Tensor](), list[Tensor]()
    for own, near in zip(labels.split(ROWS), neighbours.split(ROWS), strict=True):
        equal = torch.full(near.shape, 1 / near.shape[1], dtype=torch.float64)
        votes = sum_votes(equal, labels[near], train.num_labels)
        shares.append(1 - votes.gather(1, own[:, None]).squeeze(1))
        suggested.append(votes.argmax(1))
    return Contradictions(torch.cat(shares), torch.cat(suggested), labels)


def largest_first(scores: Tensor, number: int) -> Tensor:
    """Return the positions of the largest scores, the largest first; of equal ones that which comes first."""
    return torch.sort(scores, descending=True, stable=True).indices[:number]
