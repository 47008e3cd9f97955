"""The matrix and the recalls by hand and as scikit-learn has them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from sklearn import metrics

from dinodiet.errors import NotApplicable, printable
from dinodiet.evals.intervals import wilson
from dinodiet.evals.knn import KNN
from dinodiet.evals.pictures.confusion import (
    PAIRS,
    PICTURE,
    RECALLS,
    Confusion,
    confusion_matrix,
    figure_of,
    recalls_of,
)
from dinodiet.evals.splits import GivenSplits
from dinodiet.results.figures import save
from dinodiet.types import DataSpec
from tests.evals.pictures.given import GivenImages
from tests.evals.synthetic import blobs

CLASSES = ("$x$ <b>", "b,\nc\udcff", "日" * 300)


def given(folder: Path | None) -> Any:
    spec = DataSpec("set", 90, 3, classes=CLASSES)
    return GivenImages(blobs(90), blobs(61, seed=1), spec=spec, folder=folder)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_predictions_are_those_of_knn(tmp_path: Path) -> None:
    splits = given(tmp_path)
    scores = Confusion()(splits)
    recalls = rows(tmp_path / RECALLS)
    expected = KNN()(GivenSplits(splits.train, splits.test))
    values = [float(row["recall"]) for row in recalls]
    assert sum(values) / 3 == pytest.approx(expected["recall"].value, abs=1e-6)
    assert values == sorted(values)
    assert scores["worst_recall"].value == pytest.approx(values[0], abs=1e-6)
    right = sum(int(row["images"]) for row in rows(tmp_path / PAIRS) if row["label"] == row["predicted"])
    assert right / 61 == pytest.approx(expected["accuracy"].value)
    assert {row["label"] for row in recalls} == set(map(printable, CLASSES))


def test_the_matrix_is_scikit_learns() -> None:
    labels, predicted = (torch.randint(4, (200,), generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    found = confusion_matrix(labels, predicted, 5)
    assert (found.numpy() == metrics.confusion_matrix(labels, predicted, labels=range(5))).all()


def test_recalls_by_hand() -> None:
    found = recalls_of(torch.tensor([[8, 2, 0], [1, 1, 2], [0, 0, 0]]), None)
    assert [(one.label, one.images, one.value, one.taken_for) for one in found] == [
        ("1", 4, 0.25, "2"),
        ("0", 10, 0.8, "1"),
    ]
    assert (found[0].low, found[0].high) == wilson(1, 4)
    assert recalls_of(torch.tensor([[3]]), None)[0].taken_for == ""


@pytest.mark.parametrize("number", [3, 60, 1000])
def test_the_picture_is_of_a_size_that_can_be_looked_at(number: int, tmp_path: Path) -> None:
    figure = figure_of(torch.eye(number, dtype=torch.int64), CLASSES if number == 3 else None)
    save(figure, tmp_path / PICTURE)
    with Image.open(tmp_path / PICTURE) as picture:
        assert max(picture.size) < 6000
    (axes, _) = figure.axes
    assert bool(axes.texts) == (number == 3)


def test_sets_without_one_label_each_are_left_out() -> None:
    for spec in (DataSpec("set", 9, 0), DataSpec("set", 9, 3, multilabel=True)):
        with pytest.raises(NotApplicable, match="needs one label an image"):
            Confusion().applies(spec, 90)
