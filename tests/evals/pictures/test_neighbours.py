"""Neighbours by hand, in the picture and in the table."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dinodiet.data.images import TensorImages
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.pictures.neighbours import PICTURE, TABLE, Neighbours
from dinodiet.evals.pictures.sheet import MARGIN, NAMES, WIDTH
from dinodiet.types import DataSpec, Embeddings
from tests.evals.pictures.given import GivenImages
from tests.evals.synthetic import tags

# Directions in the plane: each test image lies nearest to the train images beside it.
TRAIN = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 2.0], [0.1, 1.0], [-1.0, 0.0]])
TEST = torch.tensor([[3.0, 0.1], [0.0, 1.0]])
LABELS, ASKED = torch.tensor([0, 0, 1, 0, 2]), torch.tensor([0, 1])
CLASSES = ("<b>one</b>", "two, three", "f\nour")


def grey(number: int, first: int) -> TensorImages:
    """Return images of one grey each."""
    levels = first + 20 * torch.arange(number)
    return TensorImages(levels[:, None, None, None].expand(number, 3, 4, 4).byte().contiguous())


def given(folder: Path | None, *, labels: bool = True) -> Any:
    train = Embeddings(TRAIN, LABELS if labels else None, 3)
    test = Embeddings(TEST, ASKED if labels else None, 3)
    spec = DataSpec("set", 5, 3, classes=CLASSES)
    return GivenImages(train, test, spec=spec, folder=folder, train_images=grey(5, 100), test_images=grey(2, 10))


def test_the_table_has_the_nearest_in_order(tmp_path: Path) -> None:
    scores = Neighbours(k=2, images=5)(given(tmp_path))
    with (tmp_path / TABLE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["image"], row["rank"], row["neighbour"]) for row in rows] == [
        *(("0", "1", "0"), ("0", "2", "1")),
        *(("1", "1", "2"), ("1", "2", "3")),
    ]
    assert [row["neighbour_label"] for row in rows] == [CLASSES[0], CLASSES[0], CLASSES[1], CLASSES[0]]
    assert rows[0]["neighbour_file"] == "train 0" and rows[0]["label"] == CLASSES[0]
    cosines = torch.nn.functional.normalize(TEST, dim=1) @ torch.nn.functional.normalize(TRAIN, dim=1).T
    assert float(rows[1]["cosine"]) == pytest.approx(float(cosines[0, 1]), abs=1e-6)
    assert scores["precision"].value == 0.75
    nearest = torch.stack([cosines[0, [0, 1]], cosines[1, [2, 3]]])
    assert scores["distance"].value == pytest.approx(float(1 - nearest.mean()), abs=1e-6)


def test_the_picture_shows_each_image_and_its_neighbours(tmp_path: Path) -> None:
    Neighbours(k=2, images=5)(given(tmp_path))
    with Image.open(tmp_path / PICTURE) as picture:
        sheet = np.asarray(picture)
    assert sheet.shape[:2] == (2 * (WIDTH + NAMES), 3 * WIDTH)
    middle = WIDTH // 2
    shown = [
        [int(sheet[row * (WIDTH + NAMES) + NAMES + middle, column * WIDTH + middle, 0]) for column in range(3)]
        for row in range(2)
    ]
    assert shown == [[10, 100, 120], [30, 140, 160]]
    names = sheet[: NAMES - MARGIN // 2, :WIDTH]
    assert (names < 128).any()  # the label is written above


def test_without_one_label_each_there_is_the_distance_alone(tmp_path: Path) -> None:
    assert set(Neighbours(k=2)(given(tmp_path, labels=False))) == {"distance", "k"}
    several = tags(5, dim=2, num_labels=2)
    splits = replace(given(tmp_path), train=several, test=replace(several))
    assert set(Neighbours(k=2)(replace(splits, test_images=grey(5, 10)))) == {"distance", "k"}


def test_without_images_to_report_on_it_is_left_out() -> None:
    none = Embeddings(TRAIN[:0], None, 0)
    with pytest.raises(NotApplicable, match="needs images to report on"):
        Neighbours(k=2)(replace(given(None), test=none))


def test_without_a_folder_nothing_is_written() -> None:
    assert set(Neighbours(k=2)(given(None))) == {"distance", "precision", "k"}


def test_what_cannot_be_compared_is_told() -> None:
    with pytest.raises(UserError, match="k: 8; there are only 5 train images"):
        Neighbours().applies(DataSpec("set", 5, 3), 5)
