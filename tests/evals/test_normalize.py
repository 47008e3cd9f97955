"""Standardised features: hand values, and scikit-learn's neighbours and votes on them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from dinodiet.errors import UserError
from dinodiet.evals import knn
from dinodiet.evals.knn import KNN
from dinodiet.evals.linear import Linear
from dinodiet.evals.normalize import moments, normalizer
from dinodiet.evals.probe import Probe
from dinodiet.types import EmbeddingEvaluator, Embeddings
from tests.evals.synthetic import blobs, tags, values


def uniform(**settings: Any) -> KNN:
    return KNN(metric="euclidean", votes="uniform", **settings)


def test_features_are_standardised_and_what_does_not_vary_counts_as_1() -> None:
    train = torch.tensor([[1.0, 3.3, 0.0, 1e3], [3.0, 3.3, 1e-7, 1e3], [5.0, 3.3, 0.0, 1e3]])
    mean, deviation = moments(train)
    assert mean.tolist() == pytest.approx([3.0, 3.3, 1e-7 / 3, 1e3])
    assert deviation.tolist() == pytest.approx([math.sqrt(8 / 3), 1.0, 1.0, 1.0])
    ends = math.sqrt(1.5)
    assert normalizer("standardize", train)(train)[:, 0].tolist() == pytest.approx([-ends, 0.0, ends])
    assert moments(train[:1])[1].tolist() == [1.0] * 4  # one image has no deviation
    assert torch.equal(normalizer("none", train)(train), train)
    assert normalizer("l2", train)(torch.tensor([[3.0, 4.0]])).tolist() == [pytest.approx([0.6, 0.8])]


def test_test_images_are_standardised_by_train_alone() -> None:
    train, test = torch.tensor([[0.0], [2.0]]), torch.tensor([[10.0], [20.0]])
    expected = [9.0, 19.0]
    assert normalizer("standardize", train)(test)[:, 0].tolist() == pytest.approx(expected)


def test_standardised_neighbours_are_others() -> None:
    """(0.9, 1) is nearer to (0, 0), by 1.81 against 4.01; in units of deviations to (1, 3), by 1.35 against 1.92."""
    train = Embeddings(torch.tensor([[0.0, 0.0], [1.0, 3.0]]), torch.tensor([0, 1]), 2)
    test = Embeddings(torch.tensor([[0.9, 1.0]]), torch.tensor([1]), 2)
    assert values(uniform(k=1), train, test)["accuracy"] == 0.0
    assert values(uniform(k=1, normalize="standardize"), train, test)["accuracy"] == 1.0


def test_of_labels_with_equal_votes_the_smallest_is_predicted() -> None:
    train = Embeddings(torch.tensor([[1.0], [2.0], [3.0], [4.0]]), torch.tensor([2, 1, 1, 2]), 3)
    test = Embeddings(torch.tensor([[0.0]]), torch.tensor([1]), 3)
    assert [values(uniform(k=k), train, test)["accuracy"] for k in (1, 2, 3, 4)] == [0.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("normalize", ["none", "standardize"])
@pytest.mark.parametrize("k", [1, 4, 20])
def test_accuracies_are_scikit_learns(k: int, normalize: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tiles smaller than the data, with dimensions of very different scale and one that is constant."""
    monkeypatch.setattr(knn, "ROWS", 32)
    monkeypatch.setattr(knn, "COLUMNS", 64)
    train, test = blobs(400, num_labels=5, noise=2.0), blobs(150, num_labels=5, noise=2.0, seed=1)
    scales = torch.tensor([1e-2, 1e-1, 1.0, 1.0, 1.0, 1.0, 10.0, 0.0])
    parts = [Embeddings(part.features * scales + 3.0, part.labels, 5) for part in (train, test)]
    fit, report = (part.features.double().numpy() for part in parts)
    if normalize == "standardize":
        scaler = StandardScaler().fit(fit)
        fit, report = scaler.transform(fit), scaler.transform(report)
    model = KNeighborsClassifier(k, algorithm="brute").fit(fit, train.labels.numpy())
    expected = model.score(report, test.labels.numpy())
    assert 0.2 < expected < 0.95
    assert values(uniform(k=k, normalize=normalize), *parts)["accuracy"] == pytest.approx(expected)


def test_a_probe_is_its_four_parts() -> None:
    train, test, val = blobs(120, noise=3.0), blobs(60, noise=3.0, seed=1), blobs(60, noise=3.0, seed=2)
    scales = 10 ** torch.linspace(-1, 1, 8)
    train, test, val = (Embeddings(part.features * scales, part.labels, 3) for part in (train, test, val))
    found = values(Probe(k=7, C=[0.1, 10.0]), train, test, val)
    parts: dict[str, EmbeddingEvaluator] = {
        "knn": uniform(k=7),
        "knn_norm": uniform(k=7, normalize="standardize"),
        "linear": Linear(C=[0.1, 10.0], normalize="none"),
        "linear_norm": Linear(C=[0.1, 10.0], normalize="standardize"),
    }
    for name, part in parts.items():
        assert found[name] == values(part, train, test, val)["accuracy"]
    assert list(found) == ["knn", "knn_norm", "linear", "linear_norm", "k", "C", "C_norm"]
    assert len({found[name] for name in ("knn", "knn_norm", "linear")}) > 1
    assert list(values(Probe(k=7, linear=False), train, test)) == ["knn", "knn_norm", "k"]
    with pytest.raises(UserError, match=r"^C: \[\]"):
        Probe(C=[])


def test_several_labels_an_image_are_probed_by_auroc() -> None:
    train, test = tags(200), tags(100, seed=1)
    found = values(Probe(k=7, linear=False), train, test)
    assert found["knn"] == values(uniform(k=7), train, test)["auroc"] != found["knn_norm"]
