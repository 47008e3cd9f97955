"""Evaluators against what cannot be avoided and against scikit-learn's: CPU time, in one process, in turn, one thread.

Sizes are a CI's. `BENCH_FULL=1` takes the 50,000 embeddings of 768 features that the figures of the README are for.
"""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression as SklearnLogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from dinodiet.evals.knn import COLUMNS, ROWS, nearest
from dinodiet.evals.linear import STRENGTHS, Linear
from dinodiet.evals.solvers.logistic import LogisticRegression
from dinodiet.evals.splits import GivenSplits
from dinodiet.evals.votes import sum_votes, vote_weights
from dinodiet.types import Embeddings
from tests.bench.rows import Note

pytestmark = [pytest.mark.bench, pytest.mark.usefixtures("one_thread")]

FULL = bool(os.environ.get("BENCH_FULL"))
DIM = 768 if FULL else 128
TRAIN, TEST = (50_000, 10_000) if FULL else (2000, 1000)
CPU = torch.device("cpu")


@cache
def embeddings(num_classes: int = 10) -> tuple[Embeddings, Embeddings, Embeddings]:
    """Train, test and val on the unit sphere, as a backbone's are: a mean that dwarfs the rest, deviations that fall
    with the rank of the axis (1 / rank), and classes that differ along the first 30 axes."""
    generator = torch.Generator().manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator)).Q
    deviation = 1 / torch.arange(1, DIM + 1)
    centres = 0.45 * torch.randn(num_classes, DIM, generator=generator) * (torch.arange(DIM) < 30)
    count = TRAIN + 2 * TEST
    labels = torch.randint(num_classes, (count,), generator=generator)
    clouds = (centres[labels] + torch.randn(count, DIM, generator=generator)) * deviation
    features = F.normalize(clouds @ rotation + 3 * rotation[7], dim=1)
    parts = (slice(TRAIN), slice(TRAIN, TRAIN + TEST), slice(TRAIN + TEST, None))
    train, test, val = (Embeddings(features[rows], labels[rows], num_classes) for rows in parts)
    return train, test, val


def seconds(run: Callable[[], object]) -> float:
    """Return the CPU time, which does not count what else the machine does."""
    start = time.process_time()
    run()
    return time.process_time() - start


def compare(
    note: Note, name: str, ours: Callable[[], object], theirs: Callable[[], object], rounds: int
) -> tuple[float, str]:
    """Note the ratios of times; return their lower quartile, and a line with their median and quartiles."""
    pairs = []
    for turn in range(rounds):
        sides = {side: seconds(side) for side in ((ours, theirs) if turn % 2 else (theirs, ours))}
        pairs.append((sides[ours], sides[theirs]))
    note(f"{name}, time", [a / b for a, b in pairs])
    low, median, high = np.quantile([a / b for a, b in pairs], [0.25, 0.5, 0.75])
    ours_median, theirs_median = (statistics.median(side) for side in zip(*pairs, strict=True))
    line = (
        f"{name}: {median:.3f} of the time ({low:.3f} to {high:.3f}, {rounds} rounds; "
        f"{ours_median:.2f} s against {theirs_median:.2f} s)"
    )
    return float(low), line


def test_nearest_neighbours_over_their_matrix_products(note: Note) -> None:
    """Floor: 2 * N * M * D operations, and every similarity written once. The rest is finding the largest."""
    generator = torch.Generator().manual_seed(0)
    counts = (TRAIN, TEST) if FULL else (COLUMNS, 2 * ROWS)
    columns, rows = (F.normalize(torch.randn(count, 768, generator=generator), dim=1) for count in counts)
    tile = torch.empty(ROWS, COLUMNS)

    def products() -> None:
        for part in columns.split(COLUMNS):
            for few in rows.split(ROWS):
                torch.mm(few, part.T, out=tile[: len(few), : len(part)])

    for k in (20, 200) if FULL else (20,):
        ratio, line = compare(
            note,
            f"k-NN, {len(columns):,} x {len(rows):,} x 768, k={k}, over its matrix products in the same tiles",
            lambda k=k: nearest(columns, rows, k, CPU),  # type: ignore[misc]
            products,
            rounds=3 if FULL else 7,
        )
        print(f"\n{line}")
        assert ratio < 1.5


def test_nearest_neighbours_cost_the_same_per_product_and_no_more_memory(note: Note) -> None:
    generator = torch.Generator().manual_seed(0)
    train = F.normalize(torch.randn(100_000, 128, generator=generator), dim=1)
    cost: dict[int, list[float]] = {1000: [], 10_000: [], 100_000: []}
    memory = {}
    for _ in range(3):
        for count, times in cost.items():
            before = _reset_peak_memory()
            repeats = max(1, 5000 // count)
            times.append(
                seconds(lambda: [nearest(train[:count], train[:512], 20, CPU) for _ in range(repeats)])  # noqa: B023
                / (repeats * count * 512)
            )
            memory[count] = _peak_memory() - before
    ns = {count: 1e9 * statistics.median(times) for count, times in cost.items()}
    print(f"\nk-NN, N x 512 x 128, ns for a pair: { {n: round(t, 2) for n, t in ns.items()} }")
    print(f"  peak memory beside the embeddings, MiB: { {n: round(m) for n, m in memory.items()} }")
    note("k-NN, N x 512 x 128, ns for a pair of N = 1,000, 10,000, 100,000", ", ".join(f"{t:.2f}" for t in ns.values()))
    note("k-NN, 100,000 x 512 x 128, memory beside the embeddings", f"{memory[100_000]} MiB")
    assert min(cost[100_000]) < 1.3 * ns[10_000] < 1.7 * ns[1000]
    assert memory[100_000] < 150


def _reset_peak_memory() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_memory()


def _peak_memory() -> int:
    """Return the most memory held since the reset, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


def test_nearest_neighbours_over_scikit_learns(note: Note) -> None:
    train, test, _ = embeddings()
    found: dict[str, float] = {}

    def weights(distance: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.exp((1 - distance) / np.float32(0.07))

    def ours() -> None:
        similarity, neighbours = nearest(train.features, test.features, 20, CPU)
        votes = sum_votes(vote_weights(similarity, 0.07), train.labels[neighbours], train.num_labels)
        found["ours"] = float(votes.argmax(dim=1).eq(test.labels).double().mean())

    def theirs() -> None:
        model = KNeighborsClassifier(20, algorithm="brute", metric="cosine", weights=weights)
        model.fit(train.features.numpy(), train.labels.numpy())
        found["theirs"] = float(model.score(test.features.numpy(), test.labels.numpy()))

    name = f"k-NN, {TRAIN:,} x {TEST:,} x {DIM}, k=20, over scikit-learn's"
    ratio, line = compare(note, name, ours, theirs, rounds=3 if FULL else 9)
    print(f"\n{line}\n  test accuracy {found}")
    assert found["ours"] == pytest.approx(found["theirs"], abs=2e-3)
    assert ratio < 1


def objective(data: Embeddings, weight: Tensor, intercept: Tensor, C: float) -> float:  # noqa: N803
    logits = data.features.double() @ weight.T + intercept
    return float(C * F.cross_entropy(logits, data.labels, reduction="sum") + weight.square().sum() / 2)


def accuracy(data: Embeddings, weight: Tensor, intercept: Tensor) -> float:
    return float((data.features.double() @ weight.T + intercept).argmax(1).eq(data.labels).double().mean())


def test_logistic_regression_at_one_strength(note: Note) -> None:
    train, test, _ = embeddings()
    solutions: dict[str, tuple[Tensor, Tensor]] = {}

    def ours() -> None:
        solutions["ours"] = LogisticRegression(train.features, train.labels).fit(1.0)

    def theirs() -> None:
        model = SklearnLogisticRegression(C=1.0, tol=1e-6, max_iter=10_000)
        model.fit(train.features.numpy(), train.labels.numpy())
        solutions["theirs"] = torch.tensor(model.coef_).double(), torch.tensor(model.intercept_).double()

    name = f"logistic regression, {TRAIN:,} x {DIM}, 10 classes, C=1, over scikit-learn's"
    ratio, line = compare(note, name, ours, theirs, rounds=2 if FULL else 5)
    reached = {side: objective(train, *found, 1.0) for side, found in solutions.items()}
    scores = {side: accuracy(test, *found) for side, found in solutions.items()}
    print(f"\n{line}\n  objective {reached}, test accuracy {scores}")
    assert reached["ours"] <= reached["theirs"] * (1 + 1e-7)
    assert scores["ours"] == pytest.approx(scores["theirs"], abs=5e-3)
    assert ratio < 1


def test_linear_probe_over_the_path_of_strengths(note: Note) -> None:
    """All strengths of the default, chosen on val: warm, each from zero, and scikit-learn's own path."""
    train, test, val = embeddings()
    grid = STRENGTHS if FULL else STRENGTHS[:10]
    found: dict[str, float] = {}

    def warm() -> None:
        found["warm"] = Linear(C=list(grid))(GivenSplits(train, test, val))["accuracy"].value

    def from_zero() -> None:
        solver = LogisticRegression(train.features, train.labels)
        best = -1.0
        for strength in grid:
            solver._path.clear()
            solution = solver.fit(strength)
            if (on_val := accuracy(val, *solution)) > best:
                best, found["from zero"] = on_val, accuracy(test, *solution)

    def theirs() -> None:
        model, best = SklearnLogisticRegression(max_iter=10_000, warm_start=True), -1.0  # its own, looser tolerance
        for strength in grid:
            model.set_params(C=strength).fit(train.features.numpy(), train.labels.numpy())
            if (on_val := model.score(val.features.numpy(), val.labels.numpy())) > best:
                best, found["theirs"] = on_val, float(model.score(test.features.numpy(), test.labels.numpy()))

    name = f"linear probe, {TRAIN:,} x {DIM}, {len(grid)} strengths chosen on val"
    rounds = 1 if FULL else 3
    _, against_zero = compare(note, f"{name}, over refitting from zero", warm, from_zero, rounds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ratio, line = compare(note, f"{name}, over scikit-learn's warm path", warm, theirs, rounds)
    print(f"\n{against_zero}\n{line}\n  test accuracy {found}")
    assert found["warm"] == pytest.approx(found["from zero"], abs=1e-3)
    assert found["warm"] >= found["theirs"] - 5e-3
    assert ratio < 1
