"""Votes of neighbours by three rules and two metrics: hand values, and scikit-learn's on features with duplicates."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from dinodiet.errors import UserError
from dinodiet.evals.knn import KNN, nearest
from dinodiet.evals.votes import Metric, by_distance, inverse_distances, sum_votes, vote_weights
from dinodiet.types import Embeddings
from tests.evals.synthetic import blobs, values

ONE_AGAINST_TWO = torch.tensor([[0, 1, 1]])


def votes(weights: Tensor) -> list[float]:
    found: list[float] = sum_votes(weights, ONE_AGAINST_TWO, 2)[0].tolist()
    return found


def test_one_near_neighbour_against_two_farther_ones_by_each_rule() -> None:
    near, far = (torch.tensor([distances], dtype=torch.float64) for distances in ((0.1, 0.2, 0.2), (0.1, 0.25, 0.25)))
    assert votes(inverse_distances(near)) == pytest.approx([10, 10])
    assert votes(inverse_distances(far)) == pytest.approx([10, 8])
    assert votes(inverse_distances(near, offset=0.07)) == pytest.approx([1 / 0.17, 2 / 0.27])
    first, second = votes(vote_weights(1 - near, 0.07))
    assert first / (first + second) == pytest.approx(0.676, abs=5e-4)


def test_neighbours_at_distance_0_silence_all_others_unless_there_is_an_offset() -> None:
    distance = torch.tensor([[0.0, 0.0, 1e-9], [0.1, 0.2, 0.5]], dtype=torch.float64)
    assert inverse_distances(distance).tolist() == [[1, 1, 0], pytest.approx([10, 5, 2])]
    assert inverse_distances(distance, 0.5)[0].tolist() == pytest.approx([2, 2, 2])


def test_distances_of_equal_features_are_exactly_0() -> None:
    train = blobs(40, dim=300, noise=5.0).features
    metrics: tuple[Metric, ...] = ("cosine", "euclidean")
    for metric in metrics:
        distance, neighbours = by_distance(train, train, torch.arange(40).expand(40, 40), metric)
        assert distance[:, 0].eq(0).all() and neighbours[:, 0].tolist() == list(range(40))
        assert (distance[:, 1] > 0).all() and (distance.diff(dim=1) >= 0).all()
    angle = torch.tensor([[1.0, 0.0], [math.cos(1), math.sin(1)]])
    assert by_distance(angle, angle[:1] * 7, torch.tensor([[1]]), "cosine")[0].item() == pytest.approx(1 - math.cos(1))


def with_duplicates() -> tuple[Embeddings, Embeddings]:
    """A tenth of the test images is among the training images, some twice with labels that contradict."""
    train, test = blobs(200, num_labels=5, noise=2.0), blobs(80, num_labels=5, noise=2.0, seed=1)
    train.features[:8], train.features[8:12] = test.features[:8], test.features[:4]
    return train, test


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("rule", ["inverse_distance", "uniform", "offset"])
def test_scikit_learns_neighbours_agree(metric: Any, rule: str) -> None:
    train, test = with_duplicates()
    weights: Any = {"inverse_distance": "distance", "uniform": "uniform", "offset": lambda d: 1 / (d + 0.07)}[rule]
    model = KNeighborsClassifier(15, algorithm="brute", metric=metric, weights=weights)
    model.fit(train.features.double().numpy(), train.labels.numpy())
    ours: Any = {"votes": "inverse_distance", "offset": 0.07} if rule == "offset" else {"votes": rule}
    evaluator = KNN(k=15, metric=metric, **ours)
    weighted, neighbours = evaluator._weighted(train.features, test.features, torch.device("cpu"))
    shares = sum_votes(weighted / weighted.sum(1, keepdim=True), train.labels[neighbours], 5)
    reach = torch.from_numpy(model.kneighbors(test.features.double().numpy(), 16)[0])
    decided = reach[:, 14] < reach[:, 15] - 1e-9  # of equal ones at the end scikit-learn takes any
    assert decided.float().mean() > 0.9
    expected = model.predict_proba(test.features.double().numpy())
    torch.testing.assert_close(shares[decided], torch.from_numpy(expected)[decided], atol=1e-6, rtol=1e-5)
    found = values(evaluator, train, test)
    assert found["accuracy"] == pytest.approx(float((shares.argmax(1) == test.labels).double().mean()))
    assert found.keys() - {"accuracy", "recall", "f1", "auroc"} == ({"k"} if rule == "uniform" else {"k", "offset"})


def test_the_nearest_by_euclidean_distance_are_those_of_all_distances() -> None:
    train, test = blobs(700, dim=16, noise=3.0).features * 20, blobs(50, dim=16, noise=3.0, seed=1).features * 20
    expected = torch.cdist(test.double(), train.double()).argsort(dim=1, stable=True)[:, :9]
    assert torch.equal(nearest(train, test, 9, torch.device("cpu"), "euclidean")[1], expected)
    assert torch.equal(nearest(train + 1e4, test + 1e4, 9, torch.device("cpu"), "euclidean")[1][:, 0], expected[:, 0])
    by_cosine = nearest(train, test, 9, torch.device("cpu"))[1]
    assert not torch.equal(by_cosine, expected)


def test_several_k_of_one_pass_vote_as_each_alone() -> None:
    train, test = with_duplicates()
    both = values(KNN(k=[15, 3], votes="inverse_distance"), train, test)
    assert both["auroc_k3"] == values(KNN(k=3, votes="inverse_distance"), train, test)["auroc"]


def test_settings_that_exclude_each_other_are_refused_by_name() -> None:
    with pytest.raises(UserError, match=r"^votes: similarity is the cosine, not euclidean"):
        KNN(metric="euclidean")
    with pytest.raises(UserError, match=r"^offset: 0\.07 belongs to votes=inverse_distance, not to uniform"):
        KNN(votes="uniform", offset=0.07)
