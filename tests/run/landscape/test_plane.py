"""The plane through three vectors: hand values, and what must hold in any dimension."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from dinodiet.config.schema import Axes, Origin
from dinodiet.errors import UserError
from dinodiet.run.landscape.plane import Plane, around, grid, plane_through, steps

# In the plane z = 2: the mean is (2, 1, 2), the point nearest to zero (0, 0, 2).
HAND = [torch.tensor(point, dtype=torch.float64) for point in ((0.0, 0.0, 2.0), (6.0, 0.0, 2.0), (0.0, 3.0, 2.0))]


def three(size: int = 1000) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator) + 1 for _ in range(3)]


@pytest.mark.parametrize("origin", get_args(Origin))
@pytest.mark.parametrize("axes", get_args(Axes))
def test_projecting_and_mapping_back_returns_the_three(origin: Origin, axes: Axes) -> None:
    points = three()
    plane = plane_through(points, origin, axes)
    for point in points:
        assert torch.allclose(plane.at(*plane.coordinates(point)), point.double(), rtol=0, atol=1e-12)
        assert plane.distance(point) < 1e-11
    centre = sum(points[1:], points[0]).double() / 3
    x, y = plane.coordinates(points[0])
    left, low = plane.coordinates(centre)
    assert axes == "raw" or (x < left and y < low)


def test_a_hand_example_of_origins() -> None:
    assert plane_through(HAND, "first", "raw").origin.tolist() == [0, 0, 2]
    assert plane_through(HAND, "mean", "raw").origin.tolist() == pytest.approx([2, 1, 2])
    assert plane_through(HAND, "nearest", "raw").origin.tolist() == pytest.approx([0, 0, 2])
    moved = [point + torch.tensor([5.0, 7.0, 0.0]) for point in HAND]
    assert plane_through(moved, "nearest", "orthonormal").origin.tolist() == pytest.approx([0, 0, 2])


def test_a_hand_example_of_axes() -> None:
    raw = plane_through(HAND, "first", "raw")
    assert [raw.coordinates(point) for point in HAND] == [(0, 0), pytest.approx((1, 0)), pytest.approx((0, 1))]
    found = plane_through(HAND, "first", "orthonormal")
    assert found.axes.flatten().tolist() == pytest.approx([1, 0, 0, 0, 1, 0])
    assert [found.coordinates(point) for point in HAND] == [(0, 0), pytest.approx((6, 0)), pytest.approx((0, 3))]
    scaled = plane_through(HAND, "first", "scaled")
    assert scaled.axes.norm(dim=1).tolist() == pytest.approx([math.sqrt(1.5)] * 2)
    assert found.distance(torch.tensor([1.0, 1.0, 5.5])) == pytest.approx(3.5)
    assert found.coordinates(torch.tensor([1.0, 2.0, 5.5])) == pytest.approx((1, 2))


def test_the_first_lies_in_the_lower_left_wherever_it_is() -> None:
    for first in range(3):
        points = [HAND[first], *(point for place, point in enumerate(HAND) if place != first)]
        plane = plane_through(points, "mean", "orthonormal")
        assert max(plane.coordinates(points[0])) < 0


def test_scaled_coordinates_have_the_root_mean_square_of_the_displacement() -> None:
    plane = plane_through(three(), "mean", "scaled")
    displacement = plane.at(3.0, 4.0) - plane.origin
    assert displacement.square().mean().sqrt().item() == pytest.approx(math.sqrt((9 + 16) / 2))


def test_three_on_a_line_have_no_plane() -> None:
    start, step = three(5)[:2]
    for others in ((step, 2 * step), (step, step), (0 * step, step)):
        with pytest.raises(UserError, match=r"^landscape.points: the three lie on a line"):
            plane_through([start, *(start + other for other in others)])


def test_both_ends_belong_to_a_grid() -> None:
    assert steps([-1, 1, 0.5], "x") == [-1, -0.5, 0, 0.5, 1]
    assert steps([0, 0.3, 0.1], "x")[-1] == 0.3
    assert steps([2, 2, 1], "x") == [2]
    assert len(steps([-1, 1, 0.1], "x")) == 21
    assert grid([0, 1], [5, 6]) == [(0, 5), (1, 5), (0, 6), (1, 6)]
    assert around([0.0, 4.0, 2.0])[::5] == pytest.approx([-1, 2, 5])


@pytest.mark.parametrize("bounds", [[0, 1], [1, 0, 0.1], [0, 1, 0], [0, 1, 0.3], [0, math.inf, 1]])
def test_other_grids_are_refused_by_key(bounds: list[float]) -> None:
    with pytest.raises(UserError, match=r"^landscape.y: \["):
        steps(bounds, "y")


def test_a_plane_of_slanted_axes_finds_its_own_coordinates() -> None:
    plane = Plane(torch.zeros(3, dtype=torch.float64), torch.tensor([[1.0, 0, 0], [10.0, 1, 0]], dtype=torch.float64))
    assert plane.coordinates(plane.at(3.0, -2.0)) == pytest.approx((3, -2))
