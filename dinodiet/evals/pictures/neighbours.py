"""Which train images an encoder takes for the nearest: of a few images as a picture; of all, how many share a label."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor

from dinodiet.config.ranges import Range
from dinodiet.data.images import fetch
from dinodiet.errors import UserError
from dinodiet.evals.knn import nearest
from dinodiet.evals.measures.rows import unit_rows
from dinodiet.evals.pictures.names import image_names, label_name
from dinodiet.evals.pictures.sheet import Row, rows_of_pictures, spread_over, thumbnail
from dinodiet.evals.pictures.written import write_picture, write_table
from dinodiet.types import DataSpec, EncoderSplits, Images, Score

PICTURE, TABLE = "neighbours.png", "neighbours.csv"
HEADS = ("image", "file", "label", "rank", "neighbour", "neighbour_file", "neighbour_label", "cosine")


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Of `images` images, spread evenly over the reported split, the k nearest train images by the cosine.

    A picture shows them, each with its label, and a table names their files. `precision` is the share of the k nearest
    of every reported image that have its label (precision at k of retrieval); sets without one label an image have the
    mean `distance` alone.
    """

    needs: ClassVar[Literal["encoder"]] = "encoder"
    k: Annotated[int, Range(1, 64)] = 8
    images: Annotated[int, Range(1, 256)] = 8

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Refuse fewer train images than neighbours.

        Raises:
            UserError: there are fewer.
        """
        if self.k > num_train:
            raise UserError(f"k: {self.k}; there are only {num_train} train images, so at most that")

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return precision at k and the mean distance, and write picture and table.

        Raises:
            NotApplicable: an embedding is zero or not finite.
        """
        train, test = splits.train, splits.test
        rows = [unit_rows(one.features) for one in (train, test)]
        similarities, neighbours = nearest(rows[0], rows[1], self.k, splits.runtime.device)
        found = {"distance": Score(float((1 - similarities.double()).clamp(min=0).mean()), better="none")}
        one_label = train.labels_or_none is not None and test.labels_or_none is not None and not train.multilabel
        if one_label:
            same = train.labels[neighbours] == test.labels[:, None]
            found["precision"] = Score(float(same.double().mean()))
        if splits.folder is not None:
            labels = (train.labels, test.labels) if one_label else (None, None)
            shown = Shown(splits.test_images, splits.train_images, labels[1], labels[0], splits.spec.classes)
            asked = spread_over(splits.test_images, self.images)
            write_picture(splits.folder / PICTURE, rows_of_pictures(shown.rows(asked, neighbours[asked])))
            rows_shown = shown.table(asked, neighbours[asked], similarities[asked])
            write_table(splits.folder / TABLE, HEADS, rows_shown)
        return {**found, "k": Score(self.k, kind="setting")}


@dataclass(frozen=True)
class Shown:
    """Images whose neighbours are shown, those among which these are, the labels of both, and names of labels."""

    images: Images
    among: Images
    labels: Tensor | None
    labels_among: Tensor | None
    classes: tuple[str, ...] | None

    def rows(self, asked: Tensor, neighbours: Tensor) -> list[Row]:
        """Return a row for each image that is asked for: itself and its neighbours, with labels."""
        return [
            Row(
                [f"of: {label_name(self.labels, place, self.classes) or place}", *map(self._told, found)],
                [*map(thumbnail, fetch(self.images, [place])), *map(thumbnail, fetch(self.among, found))],
            )
            for place, found in zip(asked.tolist(), neighbours.tolist(), strict=True)
        ]

    def _told(self, place: int) -> str:
        return label_name(self.labels_among, place, self.classes) or f"train {place}"

    def table(self, asked: Tensor, neighbours: Tensor, similarities: Tensor) -> Iterator[list[Any]]:
        """Yield image, its file and label, rank, neighbour, its file and label, and the cosine."""
        files, files_among = image_names(self.images, "image"), image_names(self.among, "train")
        for place, found, near in zip(asked.tolist(), neighbours.tolist(), similarities.tolist(), strict=True):
            own = [place, files[place], label_name(self.labels, place, self.classes)]
            for rank, (other, cosine) in enumerate(zip(found, near, strict=True), start=1):
                label = label_name(self.labels_among, other, self.classes)
                yield [*own, rank, other, files_among[other], label, f"{cosine:.6f}"]
