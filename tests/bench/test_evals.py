"""Our evaluators against scikit-learn's: time for the same work, in one process, in turn, one thread each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from threadpoolctl import threadpool_limits
from torch import Tensor

from dinodiet.evals.knn import KNN
from dinodiet.evals.linear import Linear
from dinodiet.evals.logistic import LogisticRegression
from dinodiet.types import Embeddings

pytestmark = pytest.mark.bench

DIM, NUM_CLASSES = 384, 10


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):  # scikit-learn's BLAS and OpenMP
        yield
    torch.set_num_threads(threads)


@cache
def embeddings() -> tuple[Embeddings, Embeddings, Embeddings]:
    """Train (20,000), test and val (5,000 each) on the unit sphere, as a backbone's are: a mean that dwarfs the rest,
    deviations that fall with the rank of the axis (1 / rank), and classes that differ along the first 30 axes."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator)).Q
    deviation = 1 / torch.arange(1, DIM + 1)
    centres = 0.45 * torch.randn(NUM_CLASSES, DIM, generator=generator) * (torch.arange(DIM) < 30)
    labels = torch.randint(NUM_CLASSES, (30_000,), generator=generator)
    clouds = (centres[labels] + torch.randn(30_000, DIM, generator=generator)) * deviation
    features = F.normalize(clouds @ rotation + 3 * rotation[7], dim=1)
    parts = (slice(20_000), slice(20_000, 25_000), slice(25_000, None))
    train, test, val = (Embeddings(features[rows], labels[rows], NUM_CLASSES) for rows in parts)
    return train, test, val


def compare(name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, str]:
    """Return the median of the ratios of times, and a line with their spread."""
    seconds: list[tuple[float, float]] = []
    for _ in range(rounds):
        times = []
        for side in (ours, theirs):
            start = time.perf_counter()
            side()
            times.append(time.perf_counter() - start)
        seconds.append((times[0], times[1]))
    ratios = [a / b for a, b in seconds]
    medians = [statistics.median(side) for side in zip(*seconds, strict=True)]
    line = (
        f"{name}: {statistics.median(ratios):.3f} of scikit-learn's time ({min(ratios):.3f} to {max(ratios):.3f}, "
        f"{rounds} rounds; {medians[0]:.2f} s against {medians[1]:.2f} s)"
    )
    return statistics.median(ratios), line


def objective(data: Embeddings, weight: Tensor, intercept: Tensor, C: float) -> float:  # noqa: N803
    logits = data.features.double() @ weight.T + intercept
    return float(C * F.cross_entropy(logits, data.labels, reduction="sum") + weight.square().sum() / 2)


def accuracy(data: Embeddings, weight: Tensor, intercept: Tensor) -> float:
    return float((data.features.double() @ weight.T + intercept).argmax(1).eq(data.labels).double().mean())


@pytest.mark.parametrize("C", [1.0])
def test_logistic_regression_at_one_strength(C: float, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: N803
    train, test, _ = embeddings()
    features, labels = train.features.numpy(), train.labels.numpy()
    solutions: dict[str, tuple[Tensor, Tensor]] = {}

    def ours() -> None:
        solutions["ours"] = LogisticRegression(train.features, train.labels).fit(C)

    def theirs() -> None:
        model = SklearnLogisticRegression(C=C, tol=1e-6, max_iter=10_000).fit(features, labels)
        solutions["theirs"] = torch.tensor(model.coef_).double(), torch.tensor(model.intercept_).double()

    ratio, line = compare(f"logistic regression, 20,000 x 384, 10 classes, C={C:g}", ours, theirs, rounds=2)
    reached = {side: objective(train, *found, C) for side, found in solutions.items()}
    scores = {side: accuracy(test, *found) for side, found in solutions.items()}
    with capsys.disabled():
        print(f"\n{line}\n  objective {reached}, test accuracy {scores}")
    assert reached["ours"] <= reached["theirs"] * (1 + 1e-7)
    assert scores["ours"] == pytest.approx(scores["theirs"], abs=2e-3)
    assert ratio < 1


def test_linear_probe_over_a_path_of_strengths(capsys: pytest.CaptureFixture[str]) -> None:
    train, test, val = embeddings()
    grid = [0.1, 1.0, 10.0, 100.0]
    found: dict[str, float] = {}

    def ours() -> None:
        found["ours"] = Linear(C=grid, device="cpu")(train, test, val)["accuracy"]

    def theirs() -> None:
        model = SklearnLogisticRegression(max_iter=10_000, warm_start=True)  # its own, looser tolerance
        best = -1.0
        for strength in grid:
            model.set_params(C=strength).fit(train.features.numpy(), train.labels.numpy())
            if (on_val := model.score(val.features.numpy(), val.labels.numpy())) > best:
                best = on_val
                found["theirs"] = float(model.score(test.features.numpy(), test.labels.numpy()))

    ratio, line = compare("linear probe, 4 strengths chosen on val", ours, theirs, rounds=2)
    with capsys.disabled():
        print(f"\n{line}\n  test accuracy {found}")
    assert found["ours"] >= found["theirs"] - 2e-3
    assert ratio < 1


def test_nearest_neighbours(capsys: pytest.CaptureFixture[str]) -> None:
    train, test, _ = embeddings()
    found: dict[str, float] = {}

    def weights(distance: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.exp((1 - distance) / np.float32(0.07))

    def ours() -> None:
        found["ours"] = KNN(k=20, device="cpu")(train, test)["accuracy"]

    def theirs() -> None:
        model = KNeighborsClassifier(20, algorithm="brute", metric="cosine", weights=weights)
        model.fit(train.features.numpy(), train.labels.numpy())
        found["theirs"] = float(model.score(test.features.numpy(), test.labels.numpy()))

    ratio, line = compare("k-NN, 20,000 x 384 train, 5,000 test, k=20", ours, theirs, rounds=3)
    with capsys.disabled():
        print(f"\n{line}\n  test accuracy {found}")
    assert found["ours"] == pytest.approx(found["theirs"], abs=1e-3)
    assert ratio < 1
