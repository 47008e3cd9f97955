"""How far a student's features are from a teacher's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.ranges import Temperature
from dinodiet.schedules import Scalar, at
from dinodiet.types import Clock

Kind = Literal["kl", "cosine", "mse"]


class FeatureLoss:
    """The mean over images of a distance between features (B, D) of a student and of a teacher.

    Args:
        kind: `kl` from softmax(teacher / T) to softmax(student / T) over the D features, summed over them, as Hinton et
            al. 2015 (arXiv:1503.02531, section 2) have it over classes; `cosine`: 1 - the cosine; `mse`: the mean of
            squared differences over the features.
        temperature: T of `kl`, a number or a schedule.
        t_squared: multiply `kl` by T^2, so that its gradients do not shrink as T grows (the same section).
    """

    def __init__(self, *, kind: Kind = "kl", temperature: Temperature[Scalar] = 3.0, t_squared: bool = False) -> None:
        self.kind, self.temperature, self.t_squared = kind, temperature, t_squared

    def __call__(self, student: Tensor, teacher: Tensor, clock: Clock) -> Tensor:
        """Return the loss of features (B, D), in float32 at least."""
        student, teacher = (x if x.element_size() > 4 else x.float() for x in (student, teacher))
        if self.kind == "kl":
            return self._kl(student, teacher, at(self.temperature, clock))
        return _OTHERS[self.kind](student, teacher)

    def _kl(self, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        predicted, wanted = (F.log_softmax(x / temperature, dim=1) for x in (student, teacher))
        loss = F.kl_div(predicted, wanted, reduction="batchmean", log_target=True)
        return loss * temperature**2 if self.t_squared else loss


def _cosine(student: Tensor, teacher: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(student, teacher, dim=1).mean()


_OTHERS: dict[Kind, Callable[[Tensor, Tensor], Tensor]] = {"cosine": _cosine, "mse": F.mse_loss}
