"""Lengths, angles and counts of parameters as one long vector, which is never put together."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

WHOLE = "model"  # the parts of a network together


def square(tensor: Tensor) -> Tensor:
    """Return the sum of squares of a tensor, float64."""
    norm: Tensor = torch.linalg.vector_norm(tensor)
    return norm.double().square()


def product(first: Tensor, second: Tensor) -> Tensor:
    """Return the dot product of two tensors of one shape, float64."""
    return torch.dot(first.reshape(-1), second.reshape(-1)).double()


class Sums:
    """Sums over tensors by name and part of a network: they are noted on the device, and read from it at once."""

    def __init__(self) -> None:
        self._noted: dict[tuple[str, str], list[Tensor]] = {}
        self._read: dict[tuple[str, str], float] = {}
        self._sizes: dict[str, int] = {}

    def count(self, part: str, numbers: int) -> None:
        """Note how many numbers a part has; call it once for each of its tensors."""
        self._sizes[part] = self._sizes.get(part, 0) + numbers

    def add(self, name: str, part: str, value: Tensor) -> None:
        """Note a term of a part's sum, float64 ()."""
        self._noted.setdefault((name, part), []).append(value)

    def read(self) -> Sums:
        """Read what was noted from the device, and return the sums."""
        keys = [key for key, terms in self._noted.items() for _ in terms]
        terms = [term for terms in self._noted.values() for term in terms]
        for key, value in zip(keys, torch.stack(terms).tolist() if terms else [], strict=True):
            self._read[key] = self._read.get(key, 0.0) + value
        self._noted = {}
        return self

    def parts(self) -> list[str]:
        """Return all parts together, and each of them."""
        return [WHOLE, *self._sizes]

    def has(self, name: str) -> bool:
        """Return whether there is a sum of this name."""
        return any(name == own for own, _ in self._read)

    def total(self, name: str, part: str) -> float:
        """Return a sum over a part, or over all."""
        return sum(value for (own, where), value in self._read.items() if own == name and part in (WHOLE, where))

    def norm(self, name: str, part: str) -> float:
        """Return the L2 norm of a vector whose squares were noted."""
        return math.sqrt(self.total(name, part))

    def rms(self, name: str, part: str) -> float:
        """Return the root mean square of such a vector's numbers."""
        size = sum(size for where, size in self._sizes.items() if part in (WHOLE, where))
        return math.sqrt(self.total(name, part) / size) if size else math.nan

    def cosine(self, products: str, first: str, second: str, part: str) -> float:
        """Return the cosine of two vectors; NaN where one has no length."""
        lengths = self.norm(first, part) * self.norm(second, part)
        return self.total(products, part) / lengths if lengths else math.nan


def nonfinite(tensors: Iterable[Tensor]) -> tuple[int, int]:
    """Return how many numbers are NaN, and how many are infinite, of either sign."""
    counts = [(int(tensor.isnan().sum()), int(tensor.isinf().sum())) for tensor in tensors]
    return sum(nan for nan, _ in counts), sum(infinite for _, infinite in counts)
