"""Which views of teacher and student a loss compares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dinodiet.errors import UserError

Pairing = Literal["all", "same", "opposite"]


@dataclass(frozen=True)
class Pairs:
    """Pairs of `targets` views that give targets and `views` of the student, of which the first ones are the same.

    `opposite` leaves out a view and itself, as DINO does; `same` takes nothing else; `all` takes both.
    """

    pairing: Pairing
    targets: int
    views: int

    def __len__(self) -> int:
        return self.targets * {"all": self.views, "same": 1, "opposite": self.views - 1}[self.pairing]

    def partners(self, values: Tensor) -> Tensor:
        """Return, for each view that gives targets, the sum of the values (views, ...) of its partners."""
        return _PARTNERS[self.pairing](values, self.targets)

    def mask(self) -> Tensor:
        """Return 1 where a row's target and a column's view are a pair, float32 (targets, views), else 0."""
        return self.partners(torch.eye(self.views))

    def check(self) -> None:
        """Refuse a pairing without pairs.

        Raises:
            UserError: there are none.
        """
        if not len(self):
            raise UserError(
                f"loss.pairs: {self.pairing} compares different views, and views.crops makes {self.views} of an image; "
                "choose same or all, or two views or more"
            )


_PARTNERS: dict[Pairing, Callable[[Tensor, int], Tensor]] = {
    "all": lambda values, targets: values.sum(0).expand(targets, *values.shape[1:]),
    "same": lambda values, targets: values[:targets],
    "opposite": lambda values, targets: values.sum(0) - values[:targets],
}
