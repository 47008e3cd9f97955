"""The blocks of a timm model, which `last_<n>_blocks` counts: by its names, else by what its forward pass calls.

Most families name them: `blocks`, `stages`, `layers`, or a child for each stage. Stages of attention blocks alone, as
Swin's, are opened: of a transformer the transformer blocks are counted. Where the names do not tell, or where the last
of them and what follows would be nearly all of the parameters, the modules are taken in the order of the forward pass.
Those that hold several layers are blocks, and so is a layer with a tenth of the parameters; a smaller layer belongs to
the block after it. A block that is nearly all is divided, if it is a chain of blocks itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from torch import nn

_BLOCKS = re.compile(r"blocks|stages|layers|(layer\d+|s\d+)")  # timm's names: containers of blocks, or single stages
_NEARLY_ALL = 0.8  # of the parameters
_LARGE = 0.1  # a single layer with this part of them is a block of its own
_MANY = 6  # layers in a row that are blocks each, where no larger ones are (VGG)


@dataclass(frozen=True)
class Blocks:
    """The names of a model's modules, from input to output: its blocks, and its tail, what follows the last."""

    blocks: list[list[str]] = field(default_factory=list)
    tail: list[str] = field(default_factory=list)


def find_blocks(model: nn.Module, calls: Callable[[], Mapping[str, int]]) -> Blocks:
    """Return the blocks of a model; `calls` numbers the modules that its forward pass calls, in that order."""
    named = _named(model)
    names = [name for block in named.blocks for name in block]
    callable_ = not any(isinstance(model.get_submodule(name), nn.ModuleList) for name in names)
    if named.blocks and callable_ and _share(model, named.blocks[-1] + named.tail) <= _NEARLY_ALL:
        return named
    return _Chain(model, calls()).blocks()


def _named(model: nn.Module) -> Blocks:
    """Return the blocks by timm's names; children are registered in the order of the forward pass."""
    blocks: list[list[str]] = []
    tail: list[str] = []
    for name, child in model.named_children():
        if match := _BLOCKS.fullmatch(name):
            blocks += [[name]] if match[1] else [[f"{name}.{key}"] for key, _ in child.named_children()]
            tail = []
        elif blocks:
            tail.append(name)
    if all(_has_attention_alone(model, stage) for [stage] in blocks):
        blocks = [block for [stage] in blocks for block in _within(model, stage)]
    return Blocks(blocks, tail)


def _has_attention_alone(model: nn.Module, stage: str) -> bool:
    """Return whether a stage is a row of transformer blocks, with what comes before and after them."""
    row = getattr(model.get_submodule(stage), "blocks", None)
    if not isinstance(row, nn.Sequential | nn.ModuleList):
        return False
    return all(isinstance(getattr(block, "attn", None), nn.Module) for block in row)


def _within(model: nn.Module, stage: str) -> list[list[str]]:
    """Return the blocks of a stage; what comes before them is part of the first one, what comes after of the last."""
    before: list[str] = []
    found: list[list[str]] = []
    for key, child in model.get_submodule(stage).named_children():
        if key == "blocks":
            found = [[f"{stage}.blocks.{number}"] for number, _ in child.named_children()]
            found[0] = [*before, *found[0]]
        else:
            (found[-1] if found else before).append(f"{stage}.{key}")
    return found


def _share(model: nn.Module, names: Iterable[str]) -> float:
    """Return the part of the parameters that these modules hold."""
    held = {id(p): p.numel() for name in names for p in model.get_submodule(name).parameters()}
    return sum(held.values()) / max(sum(p.numel() for p in model.parameters()), 1)


@dataclass(frozen=True)
class _Unit:
    name: str
    is_block: bool


class _Chain:
    """The modules of a model in the order of its forward pass, divided until no block is nearly all of it."""

    def __init__(self, model: nn.Module, calls: Mapping[str, int]) -> None:
        self._model, self._calls = model, calls

    def blocks(self) -> Blocks:
        units = self._opened("")
        while True:
            found = self._grouped(units)
            divided = next((unit for unit in units if self._is_nearly_all(unit, found) and self._opens(unit)), None)
            if divided is None:
                return found
            at = units.index(divided)
            units[at : at + 1] = self._opened(divided.name)

    def _grouped(self, units: list[_Unit]) -> Blocks:
        """Return the units as blocks: a layer before a block belongs to it, and a norm after a block to that one."""
        numbers = [number for number, unit in enumerate(units) if unit.is_block]
        several = any(self._layers(units[number].name) > 1 for number in numbers)
        while several and self._layers(units[numbers[0]].name) == 1:  # the stem, however large
            numbers.pop(0)
        if not numbers:
            return Blocks()
        blocks: list[list[str]] = []
        waiting: list[str] = []
        for unit in units[numbers[0] : numbers[-1] + 1]:
            if unit.is_block:
                blocks.append([*waiting, unit.name])
                waiting = []
            elif waiting or self._layers(unit.name):
                waiting.append(unit.name)
            else:
                blocks[-1].append(unit.name)
        return Blocks(blocks, [unit.name for unit in units[numbers[-1] + 1 :]])

    def _is_nearly_all(self, unit: _Unit, found: Blocks) -> bool:
        block = next((block for block in found.blocks if unit.is_block and unit.name in block), [])
        tail = found.tail if block and block is found.blocks[-1] else []
        return bool(block) and _share(self._model, block + tail) > _NEARLY_ALL

    def _opens(self, unit: _Unit) -> bool:
        """Return whether a unit is a chain itself: a residual block with its two branches is none."""
        inside = self._below(unit.name)
        layers = [self._layers(name) for name in inside]
        repeated = Counter(
            type(self._model.get_submodule(name)) for name, n in zip(inside, layers, strict=True) if n > 1
        )
        chain = isinstance(self._model.get_submodule(unit.name), nn.Sequential) or max(repeated.values(), default=0) > 1
        return bool(inside) and (chain or max(layers) <= 1 or any(map(self._is_row, inside)))

    def _opened(self, name: str) -> list[_Unit]:
        """Return what a module calls, with the blocks of a row of blocks in its place."""
        units: list[_Unit] = []
        own = self._below(name)
        rows = {child for child in own if self._is_row(child)}
        several = bool(rows) or any(self._layers(child) > 1 for child in own)
        for child in own:
            inside = self._below(child) if child in rows else [child]
            larger = any(self._layers(part) > 1 for part in inside) if child in rows else several
            units += [_Unit(part, self._is_block(part, 2 if larger else 1)) for part in inside]
        return units

    def _is_block(self, name: str, least: int) -> bool:
        layers = self._layers(name)
        return layers >= least or (layers > 0 and _share(self._model, [name]) >= _LARGE)

    def _is_row(self, name: str) -> bool:
        """Return whether a module is a row of blocks, and not one of them."""
        match = _BLOCKS.fullmatch(name.rpartition(".")[2])
        if not isinstance(self._model.get_submodule(name), nn.Sequential) or (match and match[1]):
            return False
        layers = [self._layers(part) for part in self._below(name)]
        return match is not None or sum(n > 1 for n in layers) > 1 or sum(n > 0 for n in layers) >= _MANY

    def _below(self, name: str) -> list[str]:
        """Return the modules directly below that are called, through containers that are not, in order."""
        prefix = f"{name}." if name else ""
        children = [prefix + key for key, _ in self._model.get_submodule(name).named_children()]
        found = [part for child in children for part in ([child] if child in self._calls else self._below(child))]
        return sorted(found, key=self._calls.__getitem__)

    def _layers(self, name: str) -> int:
        """Return how many modules below, itself included, have weights: matrices or kernels, not scales alone."""
        parts = self._model.get_submodule(name).modules()
        return sum(any(p.ndim > 1 for p in part.parameters(recurse=False)) for part in parts)
