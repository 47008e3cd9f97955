"""Directions and lengths: values worked out by hand, and what must not change them."""

from __future__ import annotations

import math

import pytest
import torch

from dinodiet.evals.measures import sphere
from dinodiet.evals.measures.rows import on_sphere
from dinodiet.evals.measures.sphere import mean_cosine, norm_variation, uniformity

EYE = torch.eye(3, dtype=torch.float64)
OPPOSITE = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
SQUARE = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)
ALIKE = torch.tensor([[0.6, 0.8]] * 5, dtype=torch.float64)


def cloud(count: int = 40, dim: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("rows", "uniform", "cosine"),
    [(EYE, -4.0, 0.0), (OPPOSITE, -8.0, -1.0), (SQUARE, -4.396349, -1 / 3), (ALIKE, 0.0, 1.0)],
)
def test_values_worked_out_by_hand(rows: torch.Tensor, uniform: float, cosine: float) -> None:
    assert uniformity(rows) == pytest.approx(uniform, abs=1e-6)
    assert mean_cosine(rows) == pytest.approx(cosine, abs=1e-12)


def test_uniform_directions_come_to_the_limit_of_their_dimension() -> None:
    rows = on_sphere(cloud(2000, 64))
    assert uniformity(rows) == pytest.approx(-4 + 8 / 64, abs=0.02)
    assert uniformity(rows, t=1.0) == pytest.approx(-2 + 2 / 64, abs=0.02)


def test_all_pairs_count_whatever_the_size_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = on_sphere(cloud())
    distances = torch.pdist(rows).square()
    monkeypatch.setattr(sphere, "CHUNK", 7)
    assert uniformity(rows) == pytest.approx(math.log(float((-2 * distances).exp().mean())), rel=1e-12)
    assert mean_cosine(rows) == pytest.approx(float((1 - distances / 2).mean()), rel=1e-9)


def test_neither_order_nor_rotation_nor_lengths_change_directions() -> None:
    rows = cloud()
    turn = torch.linalg.qr(cloud(6, 6, seed=1)).Q
    changed = (rows * torch.linspace(0.1, 9, len(rows))[:, None] @ turn).flip(0)
    for measure in (uniformity, mean_cosine):
        assert measure(on_sphere(changed)) == pytest.approx(measure(on_sphere(rows)), rel=1e-9)


def test_variation_of_lengths() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    assert norm_variation(rows) == pytest.approx(0.5)
    assert norm_variation(7 * rows) == pytest.approx(0.5)
    assert norm_variation(on_sphere(cloud())) == pytest.approx(0.0, abs=1e-12)
