"""Learning rates of a method's parameter groups by their place: falling towards the input, or of the heads apart."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from dinodiet.backbones.depth import depth_factors
from dinodiet.types import Backbone, ParamGroup


def by_depth(groups: list[ParamGroup], backbone: nn.Module, decay: float) -> list[ParamGroup]:
    """Return groups divided so that the rates of a backbone fall with its depth; see `dinodiet.backbones.depth`."""
    assert isinstance(backbone, Backbone)
    factors = depth_factors(backbone, decay)
    found: dict[tuple[int, float], ParamGroup] = {}
    for number, group in enumerate(groups):
        for parameter in group.params:
            factor = factors.get(id(parameter), 1.0)
            name = group.name if factor == 1 else f"{group.name}_lr_x{factor:.4g}"
            one = replace(group, name=name, params=[], lr_scale=group.lr_scale * factor)
            found.setdefault((number, factor), one).params.append(parameter)
    return list(found.values())


def heads_apart(groups: list[ParamGroup], backbone: nn.Module) -> list[ParamGroup]:
    """Return groups divided into those of a backbone, and those of all else, which follow the heads' rate."""
    own = set(map(id, backbone.parameters()))
    divided = [
        replace(group, params=[p for p in group.params if (id(p) not in own) is head], head=head)
        for group in groups
        for head in (False, True)
    ]
    return [replace(group, name=f"head_{group.name}") if group.head else group for group in divided if group.params]
