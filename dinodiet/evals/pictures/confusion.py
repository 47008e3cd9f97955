"""Which classes k-NN takes for which: the matrix as a picture and a table, and the recall of each class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from dinodiet.config.ranges import Range
from dinodiet.errors import NotApplicable
from dinodiet.evals.intervals import wilson
from dinodiet.evals.knn import KNN, check_k
from dinodiet.evals.pictures.names import class_name
from dinodiet.evals.pictures.sheet import short
from dinodiet.io.files import write_csv
from dinodiet.results.figures import save
from dinodiet.types import DataSpec, EncoderSplits, Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURE, PAIRS, RECALLS = "confusion.png", "confusion.csv", "recalls.csv"
NAMED = 40  # classes; with more the axes have numbers
INCHES, WIDEST = 0.28, 24.0  # of a class, and of all


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Which label k-NN predicts for the reported images of each class, with DINO's votes, as `eval=knn` does.

    `confusion.csv` has a row for each pair of classes that occurs, `recalls.csv` one for each class with images, the
    worst first: recall, its 95 % interval (Wilson), and what it is taken for most often. `worst_recall` is that of the
    first of them.
    """

    needs: ClassVar[Literal["encoder"]] = "encoder"
    k: Annotated[int, Range(1, 10**4)] = 20
    temperature: Annotated[float, Range(0.002, 1e3)] = 0.07

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Refuse what has no classes.

        Raises:
            NotApplicable: there are no labels, or several an image.
            UserError: there are fewer train images than neighbours.
        """
        if not spec.labelled or spec.multilabel:
            raise NotApplicable("needs one label an image")
        check_k(self.k, num_train)

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return the recall of the worst class, and write tables and picture.

        Raises:
            NotApplicable: a split has no labels.
        """
        _, shares = next(KNN(k=self.k, temperature=self.temperature).shares(splits))
        matrix = confusion_matrix(splits.test.labels, shares.argmax(1), splits.train.num_labels)
        recalls = recalls_of(matrix, splits.spec.classes)
        if (folder := splits.folder) is not None:
            write_csv(folder / PAIRS, ("label", "predicted", "images"), pairs_of(matrix, splits.spec.classes))
            heads = ("label", "images", "recall", "low", "high", "taken_for")
            write_csv(folder / RECALLS, heads, (one.cells() for one in recalls))
            save(figure_of(matrix, splits.spec.classes), folder / PICTURE)
        worst = recalls[0]
        return {
            "worst_recall": Score(worst.value, interval=(worst.low, worst.high), note=f"of {short(worst.label)}"),
            "k": Score(self.k, kind="setting"),
            "temperature": Score(self.temperature, kind="setting"),
        }


@dataclass(frozen=True)
class Recall:
    """The recall of a class with its 95 % interval, and the class that it is taken for most often; empty: for none."""

    label: str
    images: int
    value: float
    low: float
    high: float
    taken_for: str

    def cells(self) -> list[Any]:
        """Return a row of the table."""
        return [self.label, self.images, *(f"{one:.6f}" for one in (self.value, self.low, self.high)), self.taken_for]


def confusion_matrix(labels: Tensor, predicted: Tensor, num_labels: int) -> Tensor:
    """Return how many images of each class (rows) are predicted as each (columns), int64."""
    return torch.bincount(labels * num_labels + predicted, minlength=num_labels**2).view(num_labels, num_labels)


def recalls_of(matrix: Tensor, classes: Sequence[str] | None) -> list[Recall]:
    """Return the recalls of classes with images, the worst first; of equal ones in the order of labels."""
    found = []
    for label, row in enumerate(matrix):
        images, right = int(row.sum()), int(row[label])
        if (interval := wilson(right, images)) is not None:
            others = row.clone()
            others[label] = 0
            taken_for = class_name(int(others.argmax()), classes) if int(others.sum()) else ""
            found.append(Recall(class_name(label, classes), images, right / images, *interval, taken_for))
    return sorted(found, key=lambda one: one.value)


def pairs_of(matrix: Tensor, classes: Sequence[str] | None) -> Iterable[list[Any]]:
    """Yield label, predicted label and number of images of all pairs that occur."""
    for label, predicted in matrix.nonzero().tolist():
        yield [class_name(label, classes), class_name(predicted, classes), int(matrix[label, predicted])]


def figure_of(matrix: Tensor, classes: Sequence[str] | None) -> Figure:
    """Return the matrix as shares of each class, with the shares written in where there is room."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - for those who draw

    number = len(matrix)
    shares = (matrix / matrix.sum(1, keepdim=True).clamp(min=1)).numpy()
    side = min(max(3.0, INCHES * number), WIDEST)
    figure = Figure(figsize=(side + 2.5, side + 1.5), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    figure.colorbar(image, label="share of the class")
    axes.set(xlabel="predicted", ylabel="label")
    if number <= NAMED:
        names = [short(class_name(label, classes)).replace("$", r"\$") for label in range(number)]
        axes.set_xticks(range(number), names, rotation=90)
        axes.set_yticks(range(number), names)
        for row, column in matrix.nonzero().tolist():
            share = shares[row, column]
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", size=6, color=_seen_on(share))
    return figure


def _seen_on(share: float) -> str:
    return "black" if share > 0.5 else "white"
