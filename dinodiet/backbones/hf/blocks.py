"""The blocks of a model of transformers: the items of its largest list of modules that its forward pass calls."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from dinodiet.backbones.blocks import Blocks, find_blocks


def blocks_of(model: nn.Module, calls: Mapping[str, int]) -> Blocks:
    """Return the blocks of a model, and its tail; `calls` numbers the modules that its forward pass calls, in order.

    What is called between two items of the list belongs to the second, and what is called after the last is the tail.
    A model without such a list is divided as one of timm is.
    """
    lists = {name: items for name, part in model.named_modules() if len(items := _items(name, part, calls)) > 1}
    outer = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    if not outer:
        return find_blocks(model, lambda: calls)
    items = lists[max(outer, key=lambda name: _size(model.get_submodule(name)))]
    rows = [_row(model, item, calls) for item in items]
    if all(rows):  # stages of attention blocks alone, as Swin's: the transformer blocks are counted
        items = [part for row in rows for part in row]
    around = sorted(_around(model, "", items, calls), key=calls.__getitem__)
    blocks: list[list[str]] = []
    for before, item in zip([None, *items], items, strict=False):
        between = [name for name in around if before and calls[before] < calls[name] < calls[item]]
        blocks.append([*between, item])
    return Blocks(blocks, [name for name in around if calls[name] > calls[items[-1]]])


def _items(name: str, part: nn.Module, calls: Mapping[str, int]) -> list[str]:
    """Return the items of a list of modules that are called, in that order; nothing of other modules."""
    if not isinstance(part, nn.ModuleList):
        return []
    called = [path for key, item in part.named_children() if (path := f"{name}.{key}") in calls and _size(item)]
    return sorted(called, key=calls.__getitem__)


def _row(model: nn.Module, stage: str, calls: Mapping[str, int]) -> list[str]:
    """Return the transformer blocks that a stage is a row of; nothing of other stages."""
    for key, child in model.get_submodule(stage).named_children():
        if items := _items(f"{stage}.{key}", child, calls):
            parts = [dict(model.get_submodule(item).named_children()) for item in items]
            return items if all("attention" in part or "attn" in part for part in parts) else []
    return []


def _size(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def _around(model: nn.Module, name: str, items: list[str], calls: Mapping[str, int]) -> list[str]:
    """Return the largest called modules with parameters that neither are nor hold an item."""
    found: list[str] = []
    for key, child in model.get_submodule(name).named_children():
        path = f"{name}.{key}" if name else key
        if path in items or not _size(child):
            continue
        if path in calls and not any(item.startswith(f"{path}.") for item in items):
            found.append(path)
        else:
            found += _around(model, path, items, calls)
    return found
