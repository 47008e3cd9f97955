"""Ranks and slopes: values worked out by hand, and those of published implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from dinodiet.evals.measures.spectrum import decay, effective_rank, lidar, singular_values
from tests.places import REFERENCES

PUBLISHED = dict(np.load(REFERENCES / "label_free.npz"))
SETS = ("power", "collapsed", "isotropic", "views", "rank_4_exact")
FITS = {"power": [(3, 100), (10, 50)], "isotropic": [(3, 30)], "views": [(2, 20)]}


def double(*rows: float) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def given(name: str) -> Tensor:
    return torch.from_numpy(PUBLISHED[name]).double()


@pytest.mark.parametrize(("values", "rank"), [((3, 1), 1.754765), ((4, 2, 1, 1), 3.363586), ((5, 0, 0), 1.0)])
def test_ranks_worked_out_by_hand(values: tuple[float, ...], rank: float) -> None:
    assert effective_rank(singular_values(torch.diag(double(*values)))) == pytest.approx(rank, abs=1e-6)


@pytest.mark.parametrize(("epsilon", "rank"), [(0.0, 1.0), (1e-7, 1.0012), (1e-5, 1.0923)])
def test_epsilon_lifts_the_rank_of_one_direction_in_many_dimensions(epsilon: float, rank: float) -> None:
    rows = double(*range(1, 1001))[:, None] * torch.ones(768, dtype=torch.float64)
    assert effective_rank(singular_values(rows), epsilon) == pytest.approx(rank, abs=5e-5)


@pytest.mark.parametrize("name", SETS)
def test_ranks_of_the_published_implementation(name: str) -> None:
    raw, centered = singular_values(given(name)), singular_values(given(name), centered=True)
    assert effective_rank(raw, 1e-5) == pytest.approx(PUBLISHED[f"{name}.rankme"].item(), rel=1e-6)  # float32
    assert effective_rank(raw) == pytest.approx(PUBLISHED[f"{name}.effective_rank"].item(), abs=1e-6)
    assert effective_rank(centered) == pytest.approx(PUBLISHED[f"{name}.effective_rank_centered"].item(), abs=1e-6)
    assert int((centered > 0).sum()) == PUBLISHED[f"{name}.numerical_rank_centered"].item()


def test_rank_knows_no_scale_rotation_or_order() -> None:
    rows = given("power")
    turn = torch.linalg.qr(torch.randn(120, 120, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    changed = singular_values(3 * (rows @ turn).flip(0))
    assert effective_rank(changed) == pytest.approx(effective_rank(singular_values(rows)), rel=1e-9)
    assert effective_rank(changed) <= 120


def test_what_is_left_of_equal_rows_by_rounding_is_no_rank() -> None:
    alike = torch.full((50, 8), 0.1, dtype=torch.float64) * double(*range(1, 9))
    assert effective_rank(singular_values(alike)) == pytest.approx(1.0)
    assert math.isnan(effective_rank(singular_values(alike, centered=True)))


@pytest.mark.parametrize("alpha", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("weighted", [True, False])
def test_a_power_law_has_its_exponent(alpha: float, weighted: bool) -> None:
    eigenvalues = 7 * torch.arange(1, 101, dtype=torch.float64) ** -alpha
    for first, last in ((1, 100), (12, 50)):
        found, fitted = decay(eigenvalues, first, last, weighted=weighted)
        assert found == pytest.approx(alpha, abs=1e-12) and fitted == last


@pytest.mark.parametrize(("name", "before", "last"), [(name, *fit) for name in FITS for fit in FITS[name]])
def test_exponents_of_the_published_implementation(name: str, before: int, last: int) -> None:
    eigenvalues = singular_values(given(name), centered=True).square()
    for weighted, key in ((True, "alpha_req"), (False, "alpha_unweighted")):
        alpha, _ = decay(eigenvalues, before + 1, last, weighted=weighted)
        assert alpha == pytest.approx(PUBLISHED[f"{name}.{key}.{before}_{last}"].item(), abs=1e-6)


def test_ranks_that_are_not_there_are_not_fitted() -> None:
    eigenvalues = torch.cat([1 / torch.arange(1, 21, dtype=torch.float64), torch.zeros(30, dtype=torch.float64)])
    alpha, last = decay(eigenvalues, 12, 50, weighted=True)
    assert alpha == pytest.approx(1.0) and last == 20
    alpha, last = decay(eigenvalues, 20, 50, weighted=True)
    assert math.isnan(alpha) and last == 20


@pytest.mark.parametrize(
    ("centre", "offset", "rank"), [((1.0, 1.0), (0.1, 0.1), 2.0), ((3.0, 1.0), (0.1, 0.1), 1.384146),
                                   ((1.0, 1.0), (0.1, 1.0), 1.057472)],
)  # fmt: skip
def test_lidar_worked_out_by_hand(centre: tuple[float, ...], offset: tuple[float, ...], rank: float) -> None:
    centres = double(1, 0, -1, 0, 0, 1, 0, -1).view(4, 1, 2) * double(*centre)
    offsets = double(1, 1, 1, -1, -1, 1, -1, -1).view(1, 4, 2) * double(*offset)
    assert lidar(centres + offsets) == pytest.approx(rank, abs=1e-6)


def test_lidar_of_the_published_implementation() -> None:
    views = given("views").view(20, 6, 24)
    assert lidar(views) == pytest.approx(PUBLISHED["views.lidar_float64"].item(), abs=1e-6)
    assert lidar(views) == pytest.approx(PUBLISHED["views.lidar"].item(), rel=1e-4)
    assert lidar(views[:, torch.randperm(6)] + 5) == pytest.approx(lidar(views), rel=1e-9)
    assert lidar(given("views").view(6, 20, 24).transpose(0, 1)) != pytest.approx(lidar(views), rel=1e-2)


def test_lidar_of_fewer_images_than_dimensions() -> None:
    views = torch.randn(5, 3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    means, delta = views.mean(dim=1), 1e-4
    within = (views - means[:, None]).flatten(0, 1)
    scatter = within.T @ within / 10 + delta * torch.eye(40, dtype=torch.float64)
    between = torch.cov(means.T)
    found = torch.linalg.eigvals(torch.linalg.solve(scatter, between)).real.clamp(min=0) + 1e-8
    share = found / found.sum()
    assert lidar(views) == pytest.approx(float((-share * share.log()).sum().exp()), rel=1e-6)
    assert lidar(views) < 5
