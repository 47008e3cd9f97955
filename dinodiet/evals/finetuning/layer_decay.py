"""Learning rates that fall from the head to the input (Clark et al. 2020, arXiv:2003.10555; BEiT, arXiv:2106.08254)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from dinodiet.types import Backbone, ParamGroup


def layer_groups(backbone: Backbone, head: nn.Module, decay: float, *, exempt: bool) -> list[ParamGroup]:
    """Return the parameter groups of a backbone and its head, each with the learning rate of its depth.

    Block i of L, counted from 1, has the factor decay^(L + 1 - i), what lies before the first block decay^(L + 1), and
    what follows the last one has 1, as the head has. With `exempt`, weight decay is left to matrices of layers: biases,
    norms, tokens and embeddings of positions have none.
    """
    assert isinstance(backbone, nn.Module)
    scale_of, kept = _scales(backbone, decay), _decaying(backbone) | _decaying(head)
    groups: dict[tuple[float, bool], ParamGroup] = {}
    for parameter in (*backbone.parameters(), *head.parameters()):
        scale, decays = scale_of.get(id(parameter), 1.0), not exempt or id(parameter) in kept
        name = f"lr_x{scale:.4g}{'' if decays else '_no_decay'}"
        group = groups.setdefault((scale, decays), ParamGroup(name, [], scale, float(decays)))
        group.params.append(parameter)
    return list(groups.values())


def _scales(backbone: Backbone, decay: float) -> dict[int, float]:
    """Return the factor of each parameter of a backbone; what stands twice has that of its later place."""
    assert isinstance(backbone, nn.Module)
    blocks = backbone.freezable_blocks()
    scales = dict.fromkeys(map(id, backbone.parameters()), decay ** (len(blocks) + 1))
    for number, block in enumerate(blocks, 1):
        scales |= dict.fromkeys(_ids(block), decay ** (len(blocks) + 1 - number))
    return scales | dict.fromkeys(_ids(backbone.tail()), 1.0)


def _ids(modules: Iterable[nn.Module]) -> Iterator[int]:
    for module in modules:
        yield from map(id, module.parameters())


def _decaying(root: nn.Module) -> set[int]:
    """Return the matrices of layers: what is called a weight, and belongs to no table of embeddings."""
    return {
        id(parameter)
        for module in root.modules()
        if not isinstance(module, nn.Embedding)
        for name, parameter in module.named_parameters(recurse=False)
        if name.endswith("weight") and parameter.ndim > 1
    }
