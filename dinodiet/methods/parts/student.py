"""The student: what is its own, beside the backbone and the head that it is made of."""

from __future__ import annotations

from timm.layers.drop import DropPath
from torch import nn

from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.config.ranges import BelowOne
from dinodiet.errors import UserError


class Student:
    """What of a student is not its teacher's.

    Args:
        backbone: the student's, of which the drop path is set.
        drop_path: of the student alone; None: what the backbone has, else 0.1.

    Raises:
        UserError: `drop_path` is set for a backbone that has no residual blocks to drop.
    """

    def __init__(self, backbone: nn.Module, *, drop_path: BelowOne[float | None] = None) -> None:
        self.drop_path = choose_drop_path(backbone, drop_path)


def choose_drop_path(backbone: nn.Module, rate: float | None) -> float:
    """Set the student's drop path, and return its largest rate; None: what the backbone has, else 0.1 if it can."""
    if rate is None and (present := _drop_path_rate(backbone)) > 0:
        return present
    try:
        set_drop_path(backbone, 0.1 if rate is None else rate)
    except UserError:
        if rate is not None:
            raise
        return 0.0
    return _drop_path_rate(backbone)


def _drop_path_rate(backbone: nn.Module) -> float:
    return max((module.drop_prob for module in backbone.modules() if isinstance(module, DropPath)), default=0.0)
