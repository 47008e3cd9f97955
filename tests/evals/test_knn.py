from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dinodiet.errors import UserError
from dinodiet.evals import knn
from dinodiet.evals.knn import KNN, nearest, sum_votes, vote_weights
from dinodiet.types import Embeddings
from tests.evals.synthetic import blobs, tags

REFERENCE = Path(__file__).parents[1] / "reference" / "knn.npz"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def reference() -> dict[str, Any]:
    with np.load(REFERENCE) as arrays:
        return {name: arrays[name] for name in arrays.files}


def splits(arrays: dict[str, Any]) -> list[Embeddings]:
    return [
        Embeddings(torch.tensor(arrays[f"{name}_features"]), torch.tensor(arrays[f"{name}_labels"]), 10)
        for name in ("train", "test")
    ]


@pytest.mark.parametrize("k", [10, 20])
def test_the_official_votes(reference: dict[str, Any], k: int) -> None:
    """facebookresearch/dino, eval_knn.py: neighbours, similarities, votes and predictions."""
    train, test = splits(reference)
    similarity, neighbours = nearest(train.features, test.features, k, CPU)
    votes = sum_votes(vote_weights(similarity, float(reference["T"])), train.labels[neighbours], 10)
    assert np.array_equal(neighbours, reference[f"neighbours_k{k}"])
    np.testing.assert_allclose(similarity, reference[f"similarity_k{k}"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(votes, reference[f"votes_k{k}"], rtol=1e-5, atol=1e-5)
    assert np.array_equal(votes.argmax(1), reference[f"prediction_k{k}"])


def test_the_official_accuracy_of_several_k_in_one_pass(reference: dict[str, Any]) -> None:
    metrics = KNN(k=[20, 10], temperature=float(reference["T"]))(*splits(reference))
    assert 100 * metrics["accuracy"] == pytest.approx(float(reference["top1_k20"]))
    assert 100 * metrics["accuracy_k10"] == pytest.approx(float(reference["top1_k10"]))
    assert metrics["k"] == 20 and metrics["temperature"] == 0.07
    alone = KNN(k=10)(*splits(reference))
    assert {name: alone[name] for name in ("accuracy", "f1", "auroc")} == {
        name: metrics[f"{name}_k10"] for name in ("accuracy", "f1", "auroc")
    }


def test_auroc_is_of_the_share_of_votes(reference: dict[str, Any]) -> None:
    votes = reference["votes_k20"]
    expected = roc_auc_score(reference["test_labels"], votes / votes.sum(1, keepdims=True), multi_class="ovr")
    assert KNN(k=20)(*splits(reference))["auroc"] == pytest.approx(expected, abs=1e-5)


def test_cosine_similarity_ignores_the_length_of_features() -> None:
    train, test = blobs(60), blobs(30, seed=1)
    scale = 10 ** torch.linspace(-3, 3, 60)[:, None]
    assert KNN(k=5)(Embeddings(train.features * scale, train.labels, 3), test) == pytest.approx(KNN(k=5)(train, test))


def test_scikit_learns_weighted_neighbours_agree() -> None:
    train, test = blobs(200, num_labels=5, noise=2.0), blobs(80, num_labels=5, noise=2.0, seed=1)
    model = KNeighborsClassifier(15, algorithm="brute", metric="cosine", weights=lambda d: np.exp((1 - d) / 0.1))
    expected = model.fit(train.features.double(), train.labels).score(test.features.double(), test.labels)
    assert 0.2 < expected < 1.0
    assert KNN(k=15, temperature=0.1)(train, test)["accuracy"] == pytest.approx(expected)


def test_multilabel_votes_are_summed_per_label() -> None:
    train, test = tags(300), tags(100, seed=1)
    metrics = KNN(k=10)(train, test)
    assert set(metrics) == {"auroc", "k", "temperature"} and metrics["auroc"] > 0.7
    weights, labels = torch.tensor([[2.0, 1.0]]), torch.tensor([[[1, 0, 1], [1, 1, 0]]])
    assert sum_votes(weights, labels, 3).tolist() == [[3.0, 1.0, 2.0]]


class _Largest(TorchFunctionMode):
    """Records the number of elements of the largest tensor that any operation returns."""

    elements = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_memory_does_not_grow_with_train_times_test(monkeypatch: pytest.MonkeyPatch) -> None:
    train, test = blobs(700).features, blobs(900, seed=1).features
    expected = nearest(train, test, 5, CPU)
    monkeypatch.setattr(knn, "SIMILARITIES_AT_ONCE", 3000)
    with _Largest() as largest:
        found = nearest(train, test, 5, CPU)
    assert largest.elements <= test.numel() < len(train) * len(test)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_settings_that_do_not_fit_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"eval\.knn\.k: 50; .* 40 train images"):
        KNN(k=[5, 50]).check(40, 3, False)
    with pytest.raises(UserError, match=r"eval\.knn\.k: 50"):
        KNN(k=50)(blobs(40), blobs(10))
    KNN(k=40).check(40, 3, False)
    for k in (0, [], [20, -1]):
        with pytest.raises(UserError, match=r"eval\.knn\.k"):
            KNN(k=k)
    with pytest.raises(UserError, match=r"eval\.knn\.temperature: 0"):
        KNN(temperature=0)


def test_the_smallest_temperature_is_finite() -> None:
    train, test = blobs(60), blobs(30, seed=1)
    assert all(np.isfinite(value) for value in KNN(k=5, temperature=0.002)(train, test).values())
