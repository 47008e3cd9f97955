"""Which train images an encoder takes for the nearest: of a few images as a picture; of all, how many share a label."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from torch import Tensor

from dinodiet.config.ranges import Range
from dinodiet.data.images import fetch
from dinodiet.errors import NotApplicable
from dinodiet.evals.knn import check_k, nearest
from dinodiet.evals.measures.rows import evenly
from dinodiet.evals.pictures.names import image_names, label_name
from dinodiet.evals.pictures.sheet import Row, rows_of_pictures, thumbnail, write_picture
from dinodiet.io.files import write_csv
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
        check_k(self.k, num_train)

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return precision at k and the mean distance, and write picture and table.

        Raises:
            NotApplicable: nothing is reported on, as of images without labels, of which none are held out.
        """
        train, test = splits.train, splits.test
        if len(test) == 0:
            raise NotApplicable("needs images to report on; of those without labels none are held out")
        similarities, neighbours = nearest(train.features, test.features, self.k, splits.runtime.device)
        found = {"distance": Score(float((1 - similarities.double()).clamp(min=0).mean()), better="none")}
        one_label = train.labels_or_none is not None and test.labels_or_none is not None and not train.multilabel
        if one_label:
            same = train.labels[neighbours] == test.labels[:, None]
            found["precision"] = Score(float(same.double().mean()))
        if (folder := splits.folder) is not None:
            asked, classes = evenly(len(test), self.images), splits.spec.classes
            of = Labelled(splits.test_images, test.labels if one_label else None, "image", classes)
            among = Labelled(splits.train_images, train.labels if one_label else None, "train", classes)
            write_picture(folder / PICTURE, rows_of_pictures(list(rows(of, among, asked, neighbours[asked]))))
            write_csv(folder / TABLE, HEADS, table(of, among, asked, neighbours[asked], similarities[asked]))
        return {**found, "k": Score(self.k, kind="setting")}


@dataclass(frozen=True)
class Labelled:
    """Images of a split with their labels, if they have one each, and the names of labels."""

    images: Images
    labels: Tensor | None
    split: str
    classes: tuple[str, ...] | None

    def label(self, place: int) -> str:
        """Return the name of an image's label; empty where it has none."""
        return label_name(self.labels, place, self.classes)

    def cells(self, places: Sequence[int]) -> list[tuple[int, str, str]]:
        """Return the places of images, their files and their labels."""
        return [(at, name, self.label(at)) for at, name in zip(places, self.files(places), strict=True)]

    def files(self, places: Sequence[int]) -> list[str]:
        """Return the files of images, or what they are called instead."""
        return image_names(self.images, places, self.split)


def rows(of: Labelled, among: Labelled, asked: Tensor, neighbours: Tensor) -> Iterator[Row]:
    """Yield a row of pictures for each image that is asked for: itself and its neighbours, with their labels."""
    for place, found in zip(asked.tolist(), neighbours.tolist(), strict=True):
        names = [f"of: {of.label(place) or place}", *(among.label(at) or f"train {at}" for at in found)]
        yield Row(names, [*map(thumbnail, fetch(of.images, [place])), *map(thumbnail, fetch(among.images, found))])


def table(
    of: Labelled, among: Labelled, asked: Tensor, neighbours: Tensor, similarities: Tensor
) -> Iterator[list[Any]]:
    """Yield image, file, label, rank, neighbour, its file and label, and the cosine."""
    for own, found, near in zip(of.cells(asked.tolist()), neighbours.tolist(), similarities.tolist(), strict=True):
        for rank, (other, cosine) in enumerate(zip(among.cells(found), near, strict=True), start=1):
            yield [*own, rank, *other, f"{cosine:.6f}"]
