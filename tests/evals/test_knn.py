from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from torch.overrides import TorchFunctionMode

from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals import knn
from dinodiet.evals.knn import KNN, nearest
from dinodiet.evals.votes import sum_votes, vote_weights
from dinodiet.types import DataSpec, Embeddings
from tests.evals.synthetic import blobs, tags, values
from tests.places import REFERENCES

REFERENCE = REFERENCES / "knn.npz"
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
    metrics = values(KNN(k=[20, 10], temperature=float(reference["T"])), *splits(reference))
    assert 100 * metrics["accuracy"] == pytest.approx(float(reference["top1_k20"]))
    assert 100 * metrics["accuracy_k10"] == pytest.approx(float(reference["top1_k10"]))
    assert metrics["k"] == 20 and metrics["temperature"] == 0.07
    alone = values(KNN(k=10), *splits(reference))
    assert {name: alone[name] for name in ("accuracy", "f1", "auroc")} == {
        name: metrics[f"{name}_k10"] for name in ("accuracy", "f1", "auroc")
    }


def test_auroc_is_of_the_share_of_votes(reference: dict[str, Any]) -> None:
    votes = reference["votes_k20"]
    expected = roc_auc_score(reference["test_labels"], votes / votes.sum(1, keepdims=True), multi_class="ovr")
    assert values(KNN(k=20), *splits(reference))["auroc"] == pytest.approx(expected, abs=1e-5)


def test_cosine_similarity_ignores_the_length_of_features() -> None:
    train, test = blobs(60), blobs(30, seed=1)
    scale = 10 ** torch.linspace(-3, 3, 60)[:, None]
    assert values(KNN(k=5), Embeddings(train.features * scale, train.labels, 3), test) == pytest.approx(
        values(KNN(k=5), train, test)
    )


def test_scikit_learns_weighted_neighbours_agree() -> None:
    train, test = blobs(200, num_labels=5, noise=2.0), blobs(80, num_labels=5, noise=2.0, seed=1)
    model = KNeighborsClassifier(15, algorithm="brute", metric="cosine", weights=lambda d: np.exp((1 - d) / 0.1))
    fitted = model.fit(train.features.double().numpy(), train.labels.numpy())
    expected = fitted.score(test.features.double().numpy(), test.labels.numpy())
    assert 0.2 < expected < 1.0
    assert values(KNN(k=15, temperature=0.1), train, test)["accuracy"] == pytest.approx(expected)


def test_multilabel_votes_are_summed_per_label() -> None:
    train, test = tags(300), tags(100, seed=1)
    metrics = values(KNN(k=10), train, test)
    assert set(metrics) == {"auroc", "k", "temperature"} and metrics["auroc"] > 0.7
    weights, labels = torch.tensor([[2.0, 1.0]]), torch.tensor([[[1, 0, 1], [1, 1, 0]]])
    assert sum_votes(weights, labels, 3).tolist() == [[3.0, 1.0, 2.0]]


def ranked(train: Tensor, test: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """What `nearest` stands for: all similarities at once, sorted; of equal ones the first stays first."""
    similarity = F.normalize(test, dim=1) @ F.normalize(train, dim=1).T
    similarity, position = similarity.sort(dim=1, descending=True, stable=True)
    return similarity[:, :k], position[:, :k]


def assert_equal(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("k", [1, 20, 130, 1100])
def test_tiles_and_groups_find_what_sorting_everything_finds(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "ROWS", 64)
    monkeypatch.setattr(knn, "COLUMNS", 1024)
    train, test = blobs(2500, dim=16, noise=3.0).features, blobs(150, dim=16, noise=3.0, seed=1).features
    assert_equal(nearest(train, test, k, CPU), ranked(train, test, k))


@pytest.mark.parametrize("k", [1, 5, 40])
def test_of_equally_near_images_the_first_count(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "ROWS", 64)
    monkeypatch.setattr(knn, "COLUMNS", 512)
    generator = torch.Generator().manual_seed(0)
    train, test = (torch.randint(-1, 2, (count, 3), generator=generator).float() for count in (1500, 100))
    train[::7] = -0.0  # similarities of 0.0 and of -0.0 are the same
    expected = ranked(train, test, k + 1)
    assert (expected[0][:, k] == expected[0][:, k - 1]).float().mean() > 0.9  # nearly all are ties
    assert_equal(nearest(train, test, k, CPU), ranked(train, test, k))
    same = torch.ones(1500, 3)
    assert nearest(same, same[:70], k, CPU)[1].tolist() == [list(range(k))] * 70


def test_values_of_both_signs_are_ranked_as_numbers() -> None:
    values = torch.tensor([[-1.0, -0.0, 0.0, -1e-45, 1e-45, 3.0, -3.0, 3.0]])
    assert knn._keys(values).argsort(1, descending=True).tolist() == [[5, 7, 4, 1, 2, 3, 0, 6]]


class _Largest(TorchFunctionMode):
    """Records the number of elements of the largest tensor that any operation returns, or is given to write to."""

    elements = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.elements = max(self.elements, result.numel())
        return result


@pytest.mark.parametrize("train_images, test_images", [(500, 60), (500, 400), (3000, 60), (3000, 400)])
def test_memory_is_that_of_a_tile(train_images: int, test_images: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "ROWS", 32)
    monkeypatch.setattr(knn, "COLUMNS", 256)
    monkeypatch.setattr(knn, "TIED_ROWS", 8)
    train, test = blobs(train_images, dim=4), blobs(test_images, dim=4, seed=1)
    with _Largest() as largest:
        nearest(train.features, test.features, 5, CPU)
    assert largest.elements <= max(32 * 256, train.features.numel(), test.features.numel(), 5 * test_images)
    collapsed = torch.ones(train_images, 4)
    with _Largest() as of_ties:
        nearest(collapsed, collapsed[:50], 5, CPU)
    assert of_ties.elements <= max(32 * 256, collapsed.numel())
    assert values(KNN(k=5), train, test)["accuracy"] > 0.5


def test_settings_that_do_not_fit_are_refused_by_name() -> None:
    spec = DataSpec("blobs", 40, 3)
    KNN(k=40).applies(spec, 40)
    with pytest.raises(UserError, match=r"^k: 50; .* 40 train images"):
        KNN(k=[5, 50]).applies(spec, 40)
    with pytest.raises(UserError, match=r"^k: 50"):
        values(KNN(k=50), blobs(40), blobs(10))
    with pytest.raises(UserError, match=r"^k: \[\]; .*at least 1"):
        KNN(k=[])


def test_data_without_labels_has_no_neighbours_to_vote() -> None:
    with pytest.raises(NotApplicable, match="labels"):
        KNN().applies(DataSpec("unlabelled", 100, 0), 100)
    with pytest.raises(NotApplicable, match="labels"):
        values(KNN(k=5), blobs(40), replace(blobs(10), labels_or_none=None))


def test_the_smallest_temperature_is_finite() -> None:
    train, test = blobs(60), blobs(30, seed=1)
    assert all(np.isfinite(value) for value in values(KNN(k=5, temperature=0.002), train, test).values())
