from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from dinodiet.evals.solvers import lloyd as module
from dinodiet.evals.solvers.lloyd import _distances, kmeans, lloyd, plus_plus
from tests.evals.synthetic import blobs


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def centred(count: int, num_labels: int, noise: float = 1.0, seed: int = 0) -> Tensor:
    features = blobs(count, num_labels, dim=12, noise=noise, seed=seed).features
    return features - features.mean(dim=0)


def inertia_of(features: Tensor, labels: Tensor) -> float:
    """The definition: squared distances from the means of the clusters."""
    members = [features.double()[labels == label] for label in labels.unique()]
    return sum(float((part - part.mean(dim=0)).square().sum()) for part in members)


@pytest.mark.parametrize("num_clusters", [3, 25])
def test_from_the_same_centres_all_restarts_end_where_scikit_learns_do(
    num_clusters: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DISTANCES_AT_ONCE", 4000)  # several chunks
    features = centred(700, 8, noise=2.0)
    centres = plus_plus(features, num_clusters, 4, seeded())
    labels, inertia = lloyd(features, centres)
    for restart in range(4):
        theirs = SklearnKMeans(num_clusters, init=centres[restart].numpy(), n_init=1).fit(features.numpy())
        assert np.array_equal(labels[:, restart], theirs.labels_)
        assert float(inertia[restart]) == pytest.approx(theirs.inertia_, rel=1e-5)
    assert len(inertia.unique()) > 1  # they differ, and so did their numbers of iterations


def test_clusters_are_of_the_final_centres_also_where_iterations_ran_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ITER", 1)
    features = centred(500, 8, noise=2.0)
    centres = plus_plus(features, 12, 1, seeded())
    labels, inertia = lloyd(features, centres)
    nearest = torch.cdist(features, centres[0]).argmin(dim=1)
    means = torch.stack([features[nearest == cluster].mean(dim=0) for cluster in range(12)])
    distances = torch.cdist(features, means)
    assert torch.equal(labels[:, 0], distances.argmin(dim=1)) and not torch.equal(labels[:, 0], nearest)
    assert float(inertia) == pytest.approx(float(distances.amin(dim=1).square().sum()), rel=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("num_clusters, noise", [(4, 0.5), (10, 0.8), (10, 1.2)])
def test_the_tightest_clustering_is_as_tight_as_scikit_learns(num_clusters: int, noise: float, seed: int) -> None:
    features = 5 + blobs(600, num_clusters, dim=12, noise=noise, seed=seed).features
    labels, inertia = kmeans(features, num_clusters, 10, seeded(seed))
    theirs = SklearnKMeans(num_clusters, n_init=10, random_state=seed).fit(features.numpy())
    assert inertia == pytest.approx(inertia_of(features, labels), rel=2e-4)  # stopped within the tolerance
    assert inertia <= theirs.inertia_ * 1.001


def test_batches_of_restarts_and_chunks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    features = centred(500, 5, noise=2.0)
    centres = plus_plus(features, 5, 6, seeded())
    together, inertia = lloyd(features, centres)
    for restart in range(6):
        alone, its = lloyd(features, centres[[restart]])
        assert torch.equal(alone[:, 0], together[:, restart]) and float(its) == pytest.approx(float(inertia[restart]))
    monkeypatch.setattr(module, "CENTRES_AT_ONCE", 10)
    labels, tightest = kmeans(features, 5, 6, seeded(1))
    assert tightest == pytest.approx(inertia_of(features, labels), rel=1e-4)
    assert tightest == min(kmeans(features, 5, count, seeded(1))[1] for count in (2, 4, 6))


def test_features_far_from_the_origin_keep_their_digits() -> None:
    features = centred(300, 6, noise=0.5)
    near, far = kmeans(features, 6, 3, seeded()), kmeans(features + 3000, 6, 3, seeded())
    assert adjusted_rand_score(near[0], far[0]) == 1 and far[1] == pytest.approx(near[1], rel=1e-3)


def test_the_seed_decides() -> None:
    features = centred(300, 9, noise=3.0)
    first, again, other = (kmeans(features, 9, 2, seeded(seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_starts_are_images_far_from_each_other() -> None:
    """k-means++ finds every cloud where uniform draws miss some."""
    features = centred(400, 8, noise=0.05)
    centres = plus_plus(features, 8, 5, seeded())
    for restart in centres:
        distances = torch.cdist(restart, features)
        assert distances.min(dim=1).values.max() < 1e-2  # cdist is no more exact
        assert distances.argmin(dim=1).remainder(8).unique().numel() == 8  # blobs come in turn


def test_of_several_candidates_the_best_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def potential(features: Tensor) -> float:
        centres = plus_plus(features, 10, 40, seeded())
        return float(torch.cdist(features[None], centres).amin(dim=2).square().sum(dim=1).mean())

    features = centred(300, 10, noise=1.0)
    greedy = potential(features)
    monkeypatch.setattr("math.log", lambda _: -1.0)  # a single candidate
    assert greedy < 0.95 * potential(features)


def test_distances_are_squared_and_never_negative() -> None:
    features = centred(50, 3)
    chosen = torch.tensor([[0, 7], [8, 9]])
    found = _distances(features, features.square().sum(dim=1), chosen)
    expected = torch.cdist(features[chosen.flatten()].double(), features.double()).square().view(2, 2, 50)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert float(found.min()) == 0


def test_a_cluster_without_images_gets_the_farthest() -> None:
    features = torch.cat([centred(60, 3, noise=0.1), torch.full((1, 12), 40.0)])
    centres = features[:3].clone()
    centres[2] = 1e3  # nothing is near
    labels, inertia = lloyd(features, centres[None])
    assert labels[-1].item() == 2 and (labels[:, 0] == 2).sum() == 1
    assert float(inertia) == pytest.approx(inertia_of(features, labels[:, 0]), rel=1e-4)


def test_fewer_different_images_than_clusters_end() -> None:
    features = torch.eye(3)[torch.arange(30) % 3]
    labels, inertia = kmeans(features, 5, 3, seeded())
    assert inertia == pytest.approx(0, abs=1e-5) and len({tuple(row) for row in labels.view(-1, 3).tolist()}) == 1
    assert labels.unique().numel() == 3
