from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression as Sklearn
from threadpoolctl import threadpool_info
from torch import Tensor

from dinodiet.evals.solvers import logistic
from dinodiet.evals.solvers.logistic import LogisticRegression, _principal_axes
from tests.evals.synthetic import blobs, tags


def objective(features: Tensor, targets: Tensor, weight: Tensor, intercept: Tensor, C: float) -> float:  # noqa: N803
    """scikit-learn's: C * sum of losses + half the squared norm of the weights."""
    logits = features.double() @ weight.T + intercept
    if targets.ndim == 1:
        losses = F.cross_entropy(logits, targets, reduction="sum")
    else:
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    return float(C * losses + weight.square().sum() / 2)


def sklearn_fit(features: Tensor, targets: Tensor, C: float) -> tuple[Tensor, Tensor]:  # noqa: N803
    model = Sklearn(C=C, solver="newton-cholesky", tol=1e-10).fit(features.double().numpy(), targets.numpy())
    return torch.tensor(model.coef_), torch.tensor(model.intercept_)


@pytest.mark.parametrize("count", [150, 12])  # more and fewer images than features
@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_softmax_solution_is_scikit_learns(count: int, C: float) -> None:  # noqa: N803
    data = blobs(count, num_labels=4, dim=20, noise=2.0)
    weight, intercept = LogisticRegression(data.features, data.labels).fit(C)
    expected_weight, expected_intercept = sklearn_fit(data.features, data.labels, C)
    found = objective(data.features, data.labels, weight, intercept, C)
    assert found == pytest.approx(
        objective(data.features, data.labels, expected_weight, expected_intercept, C), rel=1e-7
    )
    np.testing.assert_allclose(weight, expected_weight, atol=2e-3 * float(expected_weight.abs().max()))
    # A softmax is the same for intercepts that differ by a constant.
    np.testing.assert_allclose(intercept - intercept.mean(), expected_intercept - expected_intercept.mean(), atol=2e-2)


@pytest.mark.parametrize("count", [30, 6])
def test_principal_axes_are_a_rotation_and_no_more_than_images(count: int) -> None:
    centred = blobs(count, dim=10).features.double()
    centred -= centred.mean(dim=0)
    coordinates, axes, squares = _principal_axes(centred)
    assert axes.shape == (10, min(count, 10))
    np.testing.assert_allclose(axes.T @ axes, np.eye(len(squares)), atol=1e-10)
    np.testing.assert_allclose(coordinates @ axes.T, centred, atol=1e-10)
    np.testing.assert_allclose(coordinates.T @ coordinates, squares.diag(), atol=1e-9)


@pytest.mark.parametrize("C", [0.01, 1.0, 100.0])
def test_sigmoid_solutions_are_scikit_learns_one_by_one(C: float) -> None:  # noqa: N803
    data = tags(120, num_labels=3, dim=10, noise=1.5)
    targets = data.labels.double()
    weight, intercept = LogisticRegression(data.features, targets).fit(C)
    for label in range(3):
        expected = objective(
            data.features, targets[:, [label]], *sklearn_fit(data.features, data.labels[:, label], C), C
        )
        found = objective(data.features, targets[:, [label]], weight[[label]], intercept[[label]], C)
        assert found == pytest.approx(expected, rel=1e-6)


def test_features_of_very_different_scales_converge_in_few_iterations(caplog: pytest.LogCaptureFixture) -> None:
    """Principal axes and scaling: plain L-BFGS needs hundreds of iterations here."""
    data = blobs(300, num_labels=3, dim=10, noise=1.0)
    features = data.features * 10.0 ** torch.linspace(-2, 2, 10) + 100.0
    with caplog.at_level(logging.WARNING):
        weight, intercept = LogisticRegression(features, data.labels).fit(1.0, max_iter=40)
    assert not caplog.records
    expected = objective(features, data.labels, *sklearn_fit(features, data.labels, 1.0), 1.0)
    assert objective(features, data.labels, weight, intercept, 1.0) == pytest.approx(expected, rel=1e-7)


def test_a_fit_that_stops_early_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    data = blobs(60, noise=2.0)
    with caplog.at_level(logging.WARNING):
        LogisticRegression(data.features, data.labels).fit(10.0, max_iter=2)
    assert "C=10 has not converged in 2 iterations" in caplog.text


def test_the_path_of_strengths_ends_where_a_cold_start_ends() -> None:
    data = blobs(90, noise=2.0)
    path = LogisticRegression(data.features, data.labels)
    for C in (0.01, 1.0, 1000.0):
        warm = path.fit(C)
    cold = LogisticRegression(data.features, data.labels).fit(1000.0)
    assert objective(data.features, data.labels, *warm, 1000.0) == pytest.approx(
        objective(data.features, data.labels, *cold, 1000.0), rel=1e-7
    )


def test_a_fit_starts_where_the_path_leads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parabola through three solutions spares steps, and ends in the same optimum; a strength may come twice."""
    data, strengths = (
        blobs(90, num_labels=6, dim=40, noise=2.0),
        (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e4),
    )
    steps, pointwise = [0, 0], logistic._pointwise
    found: list[tuple[Tensor, Tensor]] = []
    for side, followed in enumerate((1, 3)):

        def counted(*given: Any, side: int = side) -> tuple[Tensor, Tensor, float]:
            steps[side] += 1
            return pointwise(*given)

        monkeypatch.setattr(logistic, "_pointwise", counted)
        monkeypatch.setattr(logistic, "FOLLOWED", followed)
        path = LogisticRegression(data.features, data.labels)
        found.append([path.fit(C) for C in strengths][-1])
    assert steps[1] < 0.8 * steps[0], steps
    one, other = (objective(data.features, data.labels, *solution, 1e4) for solution in found)
    assert one == pytest.approx(other, rel=1e-7)


def test_chunks_do_not_change_the_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    data = blobs(100, noise=2.0)
    whole = LogisticRegression(data.features, data.labels).fit(1.0)
    monkeypatch.setattr(logistic, "LOGITS_AT_ONCE", 21)
    chunked = LogisticRegression(data.features, data.labels).fit(1.0)
    np.testing.assert_allclose(chunked[0], whole[0], atol=1e-8)


def test_small_problems_run_on_one_thread_and_give_the_others_back(monkeypatch: pytest.MonkeyPatch) -> None:
    data, before = blobs(30), torch.get_num_threads()
    seen: list[int] = []
    blas: list[int] = []

    def record(logits: Tensor, targets: Tensor, curvature: bool) -> tuple[Tensor, Tensor, float]:
        seen.append(torch.get_num_threads())
        blas.append(max(library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"))
        return pointwise(logits, targets, curvature)

    pointwise = logistic._pointwise
    monkeypatch.setattr(logistic, "_pointwise", record)
    torch.set_num_threads(2)
    try:
        LogisticRegression(data.features, data.labels).fit(1.0)
        assert set(seen[1:]) == set(blas[1:]) == {1} and torch.get_num_threads() == 2
        monkeypatch.setattr(logistic, "SMALL", 1)
        seen.clear()
        LogisticRegression(data.features, data.labels).fit(1.0)
        assert set(seen) == {2}
    finally:
        torch.set_num_threads(before)


def test_separable_data_without_much_penalty_stays_finite() -> None:
    data = blobs(30, noise=0.01)
    weight, intercept = LogisticRegression(data.features, data.labels).fit(1e8)
    assert weight.isfinite().all() and intercept.isfinite().all()
    assert torch.equal((data.features.double() @ weight.T + intercept).argmax(1), data.labels)
