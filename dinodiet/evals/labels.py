"""Label budgets of an evaluation: the images of train that it is given, drawn before any work."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dinodiet.config.budgets import Budget
from dinodiet.data.labelled import class_name, nested_per_class, proportional
from dinodiet.errors import UserError
from dinodiet.types import Data


@dataclass(frozen=True)
class LabelSubset:
    """The sorted `positions` in train, int64 (n,), that a budget keeps of `of` images."""

    budget: Budget
    positions: Tensor
    of: int

    @property
    def digest(self) -> str:
        """Return a hash of the positions."""
        return hashlib.blake2b(self.positions.contiguous().numpy().data, digest_size=8).hexdigest()

    def plain(self) -> dict[str, Any]:
        """Return what files of scores say of the subset."""
        return {**self.budget.plain(), "images": len(self.positions), "of": self.of, "digest": self.digest}


def draw(budget: Budget, data: Data) -> LabelSubset:
    """Return the images of train that a budget keeps: a function of their labels, the amount and the seed.

    Of one seed a smaller budget is a part of a larger one; with the exact numbers of `proportional` a class may lose an
    image as they grow, see `labelled.proportional`.

    Raises:
        UserError: a class has too few images (it is named), there are fewer images than classes, or images have several
            labels and are to be counted by class.
    """
    labels = data.train.labels
    assert labels is not None
    return LabelSubset(budget, _positions(budget, labels, data), len(labels))


def _positions(budget: Budget, labels: Tensor, data: Data) -> Tensor:
    key, amount = budget.key, budget.amount
    if budget.kind == "fraction":
        return proportional(labels, round(amount * len(labels)), budget.seed, key=key, told=f"{amount:g}")
    if labels.ndim == 1:
        _refuse_absent(labels, budget, data)
    if budget.rule == "balanced" or labels.ndim != 1:
        return nested_per_class(labels, int(amount), budget.seed, data.spec.classes, key=key)
    return proportional(labels, int(amount) * data.spec.num_labels, budget.seed, key=key, told=str(amount))


def _refuse_absent(labels: Tensor, budget: Budget, data: Data) -> None:
    """Refuse to take images of a class that train has none of."""
    absent = (labels.bincount(minlength=data.spec.num_labels) == 0).nonzero()[:, 0]
    if len(absent):
        name = class_name(int(absent[0]), data.spec.classes)
        raise UserError(f"{budget.key}: {budget.amount}, but of the training images class {name} has 0")
