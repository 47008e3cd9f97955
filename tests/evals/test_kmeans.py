from __future__ import annotations

import pytest
import torch
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from dinodiet.errors import NotApplicable
from dinodiet.evals.kmeans import KMeans
from dinodiet.types import DataSpec, Embeddings
from tests.evals.synthetic import blobs, values


def test_clusters_of_the_normalised_test_features() -> None:
    """The published protocol: scikit-learn's with n_init 10 and as many clusters as classes, on test."""
    test = blobs(400, num_labels=4, noise=1.2)
    sphere = test.features.double() / test.features.double().norm(dim=1, keepdim=True)
    clusters = SklearnKMeans(4, n_init=10, random_state=42).fit_predict(sphere.numpy())
    metrics = values(KMeans(), blobs(10), test)
    assert 0.1 < metrics["ari"] < 0.99
    assert metrics["ari"] == pytest.approx(adjusted_rand_score(test.labels, clusters), abs=1e-6)
    assert metrics["nmi"] == pytest.approx(normalized_mutual_info_score(test.labels, clusters), abs=1e-6)
    assert values(KMeans(), blobs(10), test) == metrics
    assert values(KMeans(seed=1, n_init=1), blobs(10), test) != metrics


def test_separate_clouds_are_found_whatever_the_length_of_features() -> None:
    test = blobs(60, noise=0.05)
    stretched = Embeddings(test.features * torch.linspace(0.1, 50, 60)[:, None], test.labels, 3)
    assert values(KMeans(), blobs(10), stretched) == pytest.approx({"ari": 1.0, "nmi": 1.0})


def test_collapsed_embeddings_score_nothing() -> None:
    collapsed = Embeddings(torch.ones(30, 4), torch.arange(30) % 3, 3)
    assert values(KMeans(), collapsed, collapsed) == pytest.approx({"ari": 0.0, "nmi": 0.0})


def test_where_it_makes_no_sense_it_says_why() -> None:
    with pytest.raises(NotApplicable, match="several labels"):
        KMeans().applies(DataSpec("tags", 100, 14, multilabel=True), 100)
    with pytest.raises(NotApplicable, match="needs labels"):
        KMeans().applies(DataSpec("unlabelled", 100, 0), 100)
    with pytest.raises(NotApplicable, match=r"2 images .* 3 clusters"):
        values(KMeans(), blobs(9), blobs(2))
