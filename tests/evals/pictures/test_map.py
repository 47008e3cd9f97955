"""Groups that are apart stay apart in the plane; equal seeds give equal planes; classes have their names."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from dinodiet.data.images import TensorImages
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.pictures.map import PICTURE, TABLE, EmbeddingMap, figure_of
from dinodiet.evals.pictures.plane import in_plane
from dinodiet.evals.pictures.thumbnails import THUMBNAILS
from dinodiet.types import DataSpec, Embeddings
from tests.evals.pictures.given import GivenImages
from tests.evals.synthetic import blobs, tags

KINDS = ("tsne", "pca", pytest.param("umap", marks=pytest.mark.nightly))  # UMAP compiles for half a minute
CLASSES = ("$x$", "<b>two</b>", "日本")


def given(test: Embeddings, folder: Path | None) -> Any:
    images = TensorImages(torch.zeros(len(test), 3, 4, 4, dtype=torch.uint8), test.labels_or_none)
    spec = DataSpec("set", len(test), 3, classes=CLASSES)
    return GivenImages(test, test, spec=spec, folder=folder, test_images=images)


@pytest.mark.parametrize("kind", KINDS)
def test_two_groups_that_are_apart_stay_apart(kind: Any) -> None:
    test = blobs(120, num_labels=2, dim=16, noise=0.3)
    plane = in_plane(test.features.double().numpy(), kind, 0)
    known, asked = torch.arange(60), torch.arange(60, 120)
    scored = KNeighborsClassifier(5).fit(plane[known], test.labels[known]).score(plane[asked], test.labels[asked])
    assert scored >= 0.95


def test_principal_components_are_those_of_the_covariance() -> None:
    features = blobs(50, dim=6).features.double()
    centred = features - features.mean(0)
    _, vectors = torch.linalg.eigh(centred.T @ centred)
    expected = (centred @ vectors[:, [-1, -2]]).numpy()
    found = in_plane(features.numpy(), "pca", 0)
    assert np.abs(np.abs(found) - np.abs(expected)).max() < 1e-9  # up to their signs


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_the_same_again(kind: Any, tmp_path: Path) -> None:
    test, written = blobs(90), []
    for place in ("one", "two"):
        (folder := tmp_path / place).mkdir()
        score = EmbeddingMap(kind=kind, images=40)(given(test, folder))
        written.append((score, (folder / TABLE).read_bytes(), (folder / PICTURE).read_bytes()))
    assert written[0] == written[1]
    with (tmp_path / "one" / TABLE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["image", "file", "label", "x", "y"]
    with Image.open(tmp_path / "one" / THUMBNAILS) as sheet:
        assert sheet.size == (2000, 40)  # 40 tiles, of a row of 50
    assert len(rows) == score["images"].value == 40
    assert all(row["label"] == CLASSES[int(test.labels[int(row["image"])])] for row in rows)
    assert 0.5 < score["trustworthiness"].value <= 1
    assert EmbeddingMap(kind=kind, images=40, seed=1)(given(test, None)) != score


def test_the_legend_has_the_names_of_classes() -> None:
    plane = np.random.default_rng(0).normal(size=(30, 2))
    figure = figure_of(plane, ["a"] * 10 + ["<b>"] * 10 + ["$c$"] * 10, "pca")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"\$c\$", "<b>", "a"]
    assert figure_of(plane, [str(place) for place in range(30)], "tsne").legends == []
    assert figure_of(plane, None, "tsne").legends == []


def test_labels_are_not_needed(tmp_path: Path) -> None:
    for test in (replace(blobs(40), labels_or_none=None), tags(40)):
        EmbeddingMap(kind="pca")(given(test, tmp_path))
        assert ",," in (tmp_path / TABLE).read_text().splitlines()[1]


def test_umap_without_its_library_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^kind: umap needs umap-learn: pip install 'dinodiet\[umap\]', or"):
        EmbeddingMap(kind="umap")
    EmbeddingMap(kind="pca")


def test_too_few_or_broken_embeddings_are_told() -> None:
    with pytest.raises(NotApplicable, match="needs 12 embeddings or more; there are 6"):
        EmbeddingMap()(given(blobs(6), None))
    broken = blobs(40)
    broken.features[3, 0] = float("nan")
    with pytest.raises(NotApplicable, match="1 of 40 embeddings are zero or not finite"):
        EmbeddingMap()(given(broken, None))
