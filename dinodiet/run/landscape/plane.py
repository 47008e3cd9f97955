"""The plane through three parameter vectors: its origin and axes, projecting onto it, and grids on it; all in float64.

Origins and axes are those of the loss landscapes of github.com/safelix/dinopl.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dinodiet.config.schema import Axes, Origin
from dinodiet.errors import UserError

FLAT = 1e-6  # of the longer singular value: below it three points lie on a line
WHOLE = 1e-6  # how far (max - min) / step may be from a whole number
MOST = 1_000  # values of an axis
MARGIN = 0.25  # of the extent of the three points, on each side of a grid that is not given
VALUES = 11  # of an axis of it


@dataclass(frozen=True)
class Plane:
    """The points `origin + x axes[0] + y axes[1]`; `origin` (D,), `axes` (2, D), float64, of any lengths and angle."""

    origin: Tensor
    axes: Tensor

    def at(self, x: float, y: float) -> Tensor:
        """Return the vector (D,) at two coordinates."""
        return self.origin + x * self.axes[0] + y * self.axes[1]

    def coordinates(self, vector: Tensor) -> tuple[float, float]:
        """Return the coordinates of the plane's point that is nearest to a vector (D,)."""
        products = self.axes @ (vector.double() - self.origin)
        x, y = torch.linalg.solve(self.axes @ self.axes.T, products).tolist()
        return x, y

    def distance(self, vector: Tensor) -> float:
        """Return the L2 distance of a vector (D,) from the plane."""
        return float((vector.double() - self.at(*self.coordinates(vector))).norm())


def plane_through(points: Sequence[Tensor], origin: Origin = "nearest", axes: Axes = "orthonormal") -> Plane:
    """Return the plane through three vectors (D,).

    The origin is the first of them, their mean, or the point of the plane nearest to zero. Axes are the differences to
    the first (`raw`); orthonormal, by singular value decomposition of these, the longer extent first, with signs for
    which the first vector lies left of and below the mean; or those times sqrt(D / 2) (`scaled`): the root mean square
    of a displacement over its D numbers is then that of its two coordinates.

    Raises:
        UserError: the three lie on a line.
    """
    first, second, third = (point.double() for point in points)
    differences = torch.stack([second - first, third - first])
    _, extents, directions = torch.linalg.svd(differences, full_matrices=False)
    if extents[1] <= FLAT * extents[0]:
        raise UserError("landscape.points: the three lie on a line, or two are the same; choose others")
    mean = first + differences.sum(0) / 3
    directions = directions * _signs(directions, first - mean, second - mean)[:, None]
    starts = {"first": first, "mean": mean, "nearest": first - (directions @ first) @ directions}
    scale = math.sqrt(len(first) / 2)
    return Plane(starts[origin], {"raw": differences, "orthonormal": directions, "scaled": scale * directions}[axes])


def _signs(directions: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Return the signs (2,) for which a first vector has negative coordinates; where it has 0, a second positive."""
    there, other = directions @ first, directions @ second
    undecided = there.abs() <= 1e-9 * first.norm()
    return torch.where(torch.where(undecided, -other, there) > 0, -1.0, 1.0).double()


def steps(bounds: Sequence[float], key: str) -> list[float]:
    """Return min, min + step ... max of `[min, max, step]`, both ends included.

    Raises:
        UserError: there are not three numbers, they are not in order, or the step does not divide the range.
    """
    told = f"landscape.{key}: {list(bounds)}"
    if len(bounds) != 3:
        raise UserError(f"{told}; give [min, max, step]")
    low, high, step = bounds
    if not (low <= high and step > 0 and all(map(math.isfinite, bounds))):
        raise UserError(f"{told}; [min, max, step] needs min <= max and a step above 0")
    count = (high - low) / step
    if count >= MOST:
        raise UserError(f"{told}; {count + 1:.4g} values are more than the {MOST:,} of an axis; choose a larger step")
    if abs(count - round(count)) > WHOLE:
        raise UserError(f"{told}; {step:g} does not divide {high:g} - {low:g}, and both ends belong to the grid")
    return [low + step * number for number in range(round(count))] + [high]


def around(values: Sequence[float]) -> list[float]:
    """Return the coordinates of a grid around some points, with a margin on each side."""
    low, high = min(values), max(values)
    margin = MARGIN * (high - low)
    return [low - margin + (high - low + 2 * margin) * number / (VALUES - 1) for number in range(VALUES)]


def grid(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """Return the points of a grid, row by row from the lower left."""
    return [(x, y) for y in ys for x in xs]
