"""Planted outliers and flipped labels come first, in the table and on the sheets."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dinodiet.data.cache.decoded import DecodedImages, keep_decoded
from dinodiet.data.images import FileImages, Subset, TensorImages
from dinodiet.errors import NotApplicable, printable
from dinodiet.evals.pictures.outliers import APART, CONTRADICTED, TABLE, Outliers, apart, largest_first
from dinodiet.types import Data, DataSpec, Embeddings
from tests.evals.pictures.given import given
from tests.evals.synthetic import blobs, tags

COUNT, PLANTED, SEEDS = 300, 10, (0, 1, 2)


def planted(seed: int) -> tuple[Embeddings, set[int], set[int]]:
    """Return clouds with rows of noise among them and labels that were flipped, and where they are."""
    train, draw = blobs(COUNT, noise=0.2, seed=seed), torch.Generator().manual_seed(seed)
    places = torch.randperm(COUNT, generator=draw)[: 2 * PLANTED]
    far, flipped = places[:PLANTED], places[PLANTED:]
    features, labels = train.features.clone(), train.labels.clone()
    features[far] = torch.randn(PLANTED, features.shape[1], generator=draw)
    labels[flipped] = (labels[flipped] + 1) % 3
    return replace(train, features=features, labels_or_none=labels), set(far.tolist()), set(flipped.tolist())


def ranked(folder: Path, why: str) -> list[dict[str, str]]:
    with (folder / TABLE).open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["why"] == why]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_was_planted_comes_first(seed: int, tmp_path: Path) -> None:
    train, far, flipped = planted(seed)
    scores = Outliers(images=PLANTED)(given(train, tmp_path))
    found = {int(row["image"]) for row in ranked(tmp_path, "apart")}
    assert len(found & far) >= 0.9 * PLANTED
    contradicted = [row for row in ranked(tmp_path, "contradicted") if int(row["image"]) not in far]
    assert len({int(row["image"]) for row in contradicted} & flipped) >= 0.9 * len(contradicted) > 0
    true = blobs(COUNT).labels
    assert all(int(row["suggested"]) == true[int(row["image"])] for row in contradicted)
    assert 0.9 * PLANTED <= scores["contradicted"].value * COUNT <= 2 * PLANTED  # noise has neighbours of any label
    again = tmp_path / "again"
    again.mkdir()
    assert Outliers(images=PLANTED)(given(train, again)) == scores
    assert (again / TABLE).read_text() == (tmp_path / TABLE).read_text()


def test_distances_are_means_over_others_by_hand() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0], [-1.0, 0.0]])
    distances, neighbours = apart(rows, 2, torch.device("cpu"))
    assert distances.tolist() == pytest.approx([0.5, 1.0, 0.5, 1.5])
    assert [sorted(one) for one in neighbours.tolist()] == [[1, 2], [0, 2], [0, 1], [0, 1]]


def test_an_image_is_no_neighbour_of_itself_among_equal_ones() -> None:
    distances, neighbours = apart(torch.ones(30, 4), 5, torch.device("cpu"))
    assert distances.tolist() == pytest.approx([0.0] * 30, abs=1e-6)
    assert not bool((neighbours == torch.arange(30)[:, None]).any())


def test_a_row_without_a_direction_lies_apart() -> None:
    rows = torch.ones(30, 4)
    rows[3] = 0
    distances, _ = apart(rows, 5, torch.device("cpu"))
    assert distances[3] == 1 and int(distances.argmax()) == 3


def test_without_one_label_each_there_are_distances_alone(tmp_path: Path) -> None:
    for train in (tags(60), replace(blobs(60), labels_or_none=None)):
        scores = Outliers(images=4)(given(train, tmp_path))
        assert set(scores) == {"distance", "k"}
        assert (tmp_path / APART).exists() and not (tmp_path / CONTRADICTED).exists()
        assert ranked(tmp_path, "apart")[0]["label"] == ""


def test_too_few_images_are_told() -> None:
    with pytest.raises(NotApplicable, match="needs more than k=20 train images; there are 20"):
        Outliers().applies(DataSpec("set", 20, 2), 20)


NAMES = ('<script>"a"', "b\nc", "ü=1+1", "d" * 200, "\udcff")


@pytest.mark.parametrize("limit_gib", [0, 1], ids=["decoded at every use", "decoded once"])
def test_files_and_classes_are_named_as_they_are(limit_gib: float, tmp_path: Path) -> None:
    (folder := tmp_path / "images").mkdir()
    paths = [folder / f"{place}_{NAMES[place % 5]}.png" for place in range(60)]
    for place, path in enumerate(paths):
        Image.new("RGB", (40 + place, 20), (place, 0, 0)).save(path)
    train = blobs(60, num_labels=5)
    split = Subset(FileImages(paths, train.labels), torch.arange(60).flip(0))
    images = keep_decoded(Data(DataSpec("set", 60, 5), split, split, split, split), tmp_path / "kept", limit_gib).train
    assert isinstance(images, Subset) and isinstance(images.images, DecodedImages) == (limit_gib > 0)
    Outliers(images=60, k=3)(given(train, tmp_path, images, classes=NAMES))
    rows = ranked(tmp_path, "contradicted")
    assert {row["file"] for row in ranked(tmp_path, "apart")} == {printable(path.name) for path in paths}
    assert all(row["suggested"] != row["label"] for row in rows)
    assert all(row["file"] == printable(paths[59 - int(row["image"])].name) for row in rows)
    assert {row["label"] for row in ranked(tmp_path, "apart")} == set(map(printable, NAMES))


def test_the_sheet_shows_the_images_in_their_order(tmp_path: Path) -> None:
    train, *_ = planted(0)
    pixels = torch.zeros(COUNT, 3, 8, 8, dtype=torch.uint8) + torch.arange(COUNT)[:, None, None, None].fmod(251).byte()
    Outliers(images=10)(given(train, tmp_path, TensorImages(pixels, train.labels)))
    with Image.open(tmp_path / APART) as picture:
        shown = np.asarray(picture)
    for place, row in enumerate(ranked(tmp_path, "apart")):
        centre = shown[place // 8 * 156 + 64, place % 8 * 128 + 64]
        assert centre.tolist() == [int(row["image"]) % 251] * 3


def test_of_equal_scores_the_first_comes_first() -> None:
    assert largest_first(torch.tensor([1.0, 3.0, 3.0, 2.0]), 3).tolist() == [1, 2, 3]
