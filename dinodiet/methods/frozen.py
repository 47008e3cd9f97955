"""No training: the backbone as it is, so that its scores are a run beside those of methods."""

from __future__ import annotations

from typing import ClassVar

from dinodiet.methods.base import MethodBase
from dinodiet.types import Backbone, DataSpec, ParamGroup


class Frozen(MethodBase):
    """The pretrained backbone, or a random one without weights. A run of it takes no step; its schedule means nothing.

    Args:
        backbone: the module to score.
        spec: facts about the data; not used.
    """

    trains: ClassVar[bool] = False

    def __init__(self, backbone: Backbone, spec: DataSpec) -> None:
        super().__init__(backbone, trainable="head_only")

    def param_groups(self) -> list[ParamGroup]:
        """Return nothing to optimise."""
        return []
