"""Distances to reference rows: values worked out by hand, chance, and the order of rows."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dinodiet.evals.measures import reference, sphere
from dinodiet.evals.measures.reference import chance, median_squared_distance, mmd2, overlap
from dinodiet.evals.measures.rows import on_sphere
from dinodiet.evals.measures.sphere import uniformity

EYE = torch.eye(2, dtype=torch.float64)


def cloud(count: int, dim: int = 6, seed: int = 0, shift: float = 0.0) -> Tensor:
    rows = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return on_sphere(rows + shift)


def test_discrepancy_worked_out_by_hand() -> None:
    median, pairs = median_squared_distance(torch.cat([EYE, -EYE]), most=6, seed=0)
    assert (median, pairs) == (2.0, 6)
    assert mmd2(EYE, -EYE, 1 / median) == pytest.approx(0.864665, abs=1e-6)
    assert mmd2(EYE, EYE, 0.5) == pytest.approx(0.0, abs=1e-12)


def test_discrepancy_by_definition_and_by_uniformity(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, gamma = cloud(30), cloud(20, seed=1, shift=0.5), 0.7
    for module in (reference, sphere):
        monkeypatch.setattr(module, "CHUNK", 7)

    def kernel(a: Tensor, b: Tensor) -> float:
        return float(torch.exp(-gamma * torch.cdist(a, b).square()).mean())

    expected = kernel(first, first) + kernel(second, second) - 2 * kernel(first, second)
    assert mmd2(first, second, gamma) == pytest.approx(expected, rel=1e-9)
    own = 1 / 30 + (1 - 1 / 30) * math.exp(uniformity(first, gamma))
    assert kernel(first, first) == pytest.approx(own, rel=1e-9)


def test_median_of_all_pairs_or_of_some(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = cloud(300)
    monkeypatch.setattr(sphere, "CHUNK", 70)
    exact, pairs = median_squared_distance(rows, most=10**6, seed=0)
    assert pairs == 300 * 299 // 2
    assert exact == pytest.approx(float(torch.pdist(rows).square().median()), rel=1e-3)
    drawn, pairs = median_squared_distance(rows, most=20_000, seed=0)
    assert pairs == 20_000 and drawn != exact
    assert drawn == pytest.approx(exact, rel=0.02)
    assert median_squared_distance(rows, most=20_000, seed=0)[0] == drawn
    assert median_squared_distance(rows, most=20_000, seed=1)[0] != drawn


def test_no_pair_is_of_a_row_with_itself() -> None:
    assert median_squared_distance(EYE, most=0 + 1, seed=0) == (2.0, 1)
    assert float(reference._drawn(cloud(5), 500, seed=0).min()) > 0


def test_sets_apart_share_no_neighbours_and_equal_ones_as_many_as_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = cloud(40, shift=9.0), cloud(60, shift=-9.0)
    assert overlap(near, far, k=20) == 0.0
    assert overlap(near, far, k=50) == pytest.approx(11 / 50)  # 39 of its own, whoever is next
    alike, others = cloud(400), cloud(300, seed=1)
    assert overlap(alike, others, k=50) == pytest.approx(chance(400, 300), abs=0.02)
    expected = overlap(alike, others, k=50)
    monkeypatch.setattr(reference, "CHUNK", 33)
    assert overlap(alike, others, k=50) == pytest.approx(expected, rel=1e-12)


def test_neighbours_by_definition() -> None:
    targets, others, k = cloud(30, dim=3), cloud(25, dim=3, seed=1), 7
    cosine = targets @ torch.cat([targets, others]).T
    found = [[j for j in row.argsort(descending=True).tolist() if j != i][:k] for i, row in enumerate(cosine)]
    expected = sum(j >= 30 for row in found for j in row) / (30 * k)
    assert 0 < overlap(targets, others, k) == pytest.approx(expected, rel=1e-12)
    assert overlap(targets.flip(0), others.flip(0), k) == pytest.approx(expected, rel=1e-12)


def test_of_copies_each_counts_in_part() -> None:
    """A target with a copy among targets and one among references: its own row is taken out, no copy is."""
    rows = cloud(1).expand(3, -1)
    assert overlap(rows[:2], rows[:1], k=1) == pytest.approx(0.5) == pytest.approx(chance(2, 1))
    assert overlap(rows[:1], rows[:1], k=1) == 1.0


def test_chance() -> None:
    assert chance(546, 5000) == pytest.approx(0.9017, abs=1e-4)
    assert chance(5000, 5000) == pytest.approx(0.5, abs=1e-3)
