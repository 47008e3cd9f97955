"""How far a parameter of a backbone is from its output, as a factor of its learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import nn

from dinodiet.types import Backbone


def depth_factors(backbone: Backbone, decay: float) -> dict[int, float]:
    """Return the factor of each parameter, by its identity: rates fall from the output to the input.

    Block i of L, counted from 1, has decay^(L + 1 - i), what lies before the first block decay^(L + 1), and what
    follows the last one 1, as a head has (Clark et al. 2020, arXiv:2003.10555; BEiT, arXiv:2106.08254). What stands
    twice has the factor of its later place.
    """
    assert isinstance(backbone, nn.Module)
    blocks = backbone.freezable_blocks()
    factors = dict.fromkeys(map(id, backbone.parameters()), decay ** (len(blocks) + 1))
    for number, block in enumerate(blocks, 1):
        factors |= dict.fromkeys(_ids(block), decay ** (len(blocks) + 1 - number))
    return factors | dict.fromkeys(_ids(backbone.tail()), 1.0)


def _ids(modules: Iterable[nn.Module]) -> Iterator[int]:
    for module in modules:
        yield from map(id, module.parameters())
