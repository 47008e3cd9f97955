"""How features of two widths are brought to one."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn


class Matching(nn.Module):
    """Features of a student and of a teacher, (B, `student_dim`) and (B, `teacher_dim`), at one width.

    Args:
        student_dim: width of the student's features.
        teacher_dim: width of the teacher's.
        kind: `pool`: adaptive average pooling of the wider ones, to m of n numbers: number i is the mean of those from
            floor(i n / m) to ceil((i + 1) n / m) - 1. `linear`: the student's go through a linear map without bias that
            is trained with it (FitNets: Romero et al. 2015, arXiv:1412.6550, section 2.2), and is no part of it.
    """

    def __init__(self, student_dim: int, teacher_dim: int, *, kind: Literal["pool", "linear"] = "pool") -> None:
        super().__init__()
        self.width = min(student_dim, teacher_dim) if kind == "pool" else teacher_dim
        self.map = nn.Linear(student_dim, teacher_dim, bias=False) if kind == "linear" else None

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return both features as (B, width)."""
        student = student if self.map is None else self.map(student)
        return self._pooled(student), self._pooled(teacher)

    def _pooled(self, features: Tensor) -> Tensor:
        return features if features.shape[1] == self.width else F.adaptive_avg_pool1d(features, self.width)
