""" "What of a method's parameters one process of a run holds: all of them, or a part of each (FSDP)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from dinodiet.config.schema import StrategyName
from dinodiet.config.settings import Settings
from dinodiet.methods.base import MethodBase
from dinodiet.processes.gathering import size
from dinodiet.processes.place import place_in
from dinodiet.run.together import processes_of
from dinodiet.training.blocks import blocks_of

AHEAD = 2  # blocks that are whole at a moment: the one that computes, and the next one, which is fetched meanwhile


@dataclass(frozen=True)
class Division:
    """How many processes train a run together, and how they share its parameters."""

    processes: int = 1
    strategy: StrategyName = "ddp"

    def splits(self, method: MethodBase) -> bool:
        """Return whether each process holds a part of each parameter; what is not trained is whole."""
        return self.processes > 1 and self.strategy == "fsdp" and method.trains

    def told(self) -> str | None:
        """Return whose numbers those of one process are; None: there is one."""
        return None if self.processes == 1 else f"each of {self.processes} processes ({self.strategy})"

    def size_of(self, parameters: Iterable[Tensor], method: MethodBase) -> int:
        """Return the bytes of a method's parameters, or of as large tensors, on the first process.

        It has ceil(n / W) of n rows, and no other has more. A parameter of which every process has other rows anyway
        is not divided again.
        """
        own = {id(method.get_parameter(name)) for name in method.own_parameters()}
        splits = self.splits(method)
        return sum(_size([one[: self._rows(one)] if splits and id(one) not in own else one]) for one in parameters)

    def _rows(self, tensor: Tensor) -> int:
        return -(-len(tensor) // self.processes)

    def whole_at_once(self, method: MethodBase) -> int:
        """Return the bytes that a forward pass makes whole: what is outside of blocks, and the two largest blocks."""
        if not self.splits(method):
            return 0
        outside, blocks = _groups(method)
        return _size(outside) + sum(sorted(map(_size, blocks))[-AHEAD:])

    def copied(self, method: MethodBase) -> int:
        """Return the bytes of all weights, which the first process has once more while it scores."""
        return _size([*method.parameters(), *method.buffers()]) if self.splits(method) else 0

    def gradients_at_once(self, method: MethodBase) -> int:
        """Return the bytes of gradients that are whole at a moment of the backward pass, before they are divided.

        Those outside of blocks wait for its end; those of a block are there twice while they are sent.
        """
        if not self.splits(method):
            return 0
        outside, blocks = _groups(method)
        return _trained(outside) + 2 * max(map(_trained, blocks), default=0)


ONE_PROCESS = Division()


def division_here(settings: Settings) -> Division:
    """Return how the processes that there are share a run."""
    return Division(size(), settings.strategy)


def division_of(settings: Settings) -> Division:
    """Return how the processes that a run will have share it; torchrun, or its settings, say how many."""
    place = place_in(os.environ)
    return Division(processes_of(settings) if place is None else place.size, settings.strategy)


def _groups(method: MethodBase) -> tuple[list[nn.Parameter], list[list[nn.Parameter]]]:
    """Return the parameters outside of blocks, and those of each module that is split by itself."""
    blocks = [list(block.parameters()) for block in blocks_of(method)]
    apart = {id(parameter) for block in blocks for parameter in block}
    apart |= {id(method.get_parameter(name)) for name in method.own_parameters()}
    return [parameter for parameter in method.parameters() if id(parameter) not in apart], blocks


def _size(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _trained(parameters: Iterable[nn.Parameter]) -> int:
    return _size(parameter for parameter in parameters if parameter.requires_grad)
