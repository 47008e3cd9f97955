"""Learning rates that fall from the head to the input (Clark et al. 2020, arXiv:2003.10555; BEiT, arXiv:2106.08254)."""

from __future__ import annotations

from torch import nn

from dinodiet.backbones.depth import depth_factors
from dinodiet.types import Backbone, ParamGroup


def layer_groups(backbone: Backbone, head: nn.Module, decay: float, *, exempt: bool) -> list[ParamGroup]:
    """Return the parameter groups of a backbone and its head, each with the learning rate of its depth.

    See `dinodiet.backbones.depth`; the head's factor is 1. With `exempt`, weight decay is left to matrices of layers:
    biases, norms, tokens and embeddings of positions have none.
    """
    assert isinstance(backbone, nn.Module)
    scale_of, kept = depth_factors(backbone, decay), _decaying(backbone) | _decaying(head)
    groups: dict[tuple[float, bool], ParamGroup] = {}
    for parameter in (*backbone.parameters(), *head.parameters()):
        scale, decays = scale_of.get(id(parameter), 1.0), not exempt or id(parameter) in kept
        name = f"lr_x{scale:.4g}{'' if decays else '_no_decay'}"
        group = groups.setdefault((scale, decays), ParamGroup(name, [], scale, float(decays)))
        group.params.append(parameter)
    return list(groups.values())


def _decaying(root: nn.Module) -> set[int]:
    """Return the matrices of layers: what is called a weight, and belongs to no table of embeddings."""
    return {
        id(parameter)
        for module in root.modules()
        if not isinstance(module, nn.Embedding)
        for name, parameter in module.named_parameters(recurse=False)
        if name.endswith("weight") and parameter.ndim > 1
    }
