"""What all processes of a training have, as if it were computed in one: rows one behind another, sums, largest values.

Without a process group every function returns what it is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed
from torch import Tensor


class _State:
    alone = False  # of the whole process: torch may compute a forward pass again in a thread of its own
    assumed = 0  # so many processes are only assumed; 0: none, they are those that there are


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Compute as if there were no other processes: what the first one does by itself, such as scoring."""
    before, _State.alone = _State.alone, True
    try:
        yield
    finally:
        _State.alone = before


@contextlib.contextmanager
def assumed(processes: int) -> Iterator[None]:
    """Be the first of so many processes that are not there: shapes are as with them, and nothing is sent.

    For plans, which look at shapes alone: what the others would send is left undefined.
    """
    before, _State.assumed = _State.assumed, processes
    try:
        yield
    finally:
        _State.assumed = before


def is_shared() -> bool:
    """Return whether other processes compute with this one."""
    shared = torch.distributed
    if _State.alone:
        return False
    if _State.assumed:
        return _State.assumed > 1
    return shared.is_available() and shared.is_initialized() and shared.get_world_size() > 1


def rank() -> int:
    """Return the place of this process among all, from 0."""
    return torch.distributed.get_rank() if is_shared() and not _State.assumed else 0


def size() -> int:
    """Return the number of processes W."""
    return (_State.assumed or torch.distributed.get_world_size()) if is_shared() else 1


def gathered(rows: Tensor, dim: int = 0) -> Tensor:
    """Return the rows of all W processes in the order of their ranks, W times as many along a dimension.

    All have equally many. A gradient goes back to the process whose row it is, summed over the losses of all.
    """
    if not is_shared():
        return rows
    found: Tensor = _Gathered.apply(rows.movedim(dim, 0))
    return found.movedim(0, dim)


def summed(value: Tensor) -> Tensor:
    """Return the sum of a value over all processes; its gradient is the sum of their gradients."""
    if not is_shared():
        return value
    total: Tensor = _Summed.apply(value)
    return total


def averaged(value: Tensor) -> Tensor:
    """Return the mean of a value over all processes; its gradient is the mean of their gradients."""
    return summed(value) / size()


def largest(value: Tensor) -> Tensor:
    """Return the largest of a value, number by number, over all processes; without a gradient."""
    if not is_shared():
        return value.detach()
    return _reduced(value, torch.distributed.ReduceOp.MAX)


class _Summed(torch.autograd.Function):
    """The sum over all processes, and the sum of their gradients of it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _total(value)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _total(gradient)


class _Gathered(torch.autograd.Function):
    """The rows of all processes, and for each the sum of their gradients of it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        found = [torch.empty_like(rows) for _ in range(size())]
        if not _State.assumed:
            torch.distributed.all_gather(found, rows)
        return torch.cat(found)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _total(gradient).chunk(size())[rank()]


def _total(value: Tensor) -> Tensor:
    return _reduced(value, torch.distributed.ReduceOp.SUM)


def _reduced(value: Tensor, how: Any) -> Tensor:
    found = value.detach().clone(memory_format=torch.contiguous_format)
    if not _State.assumed:
        torch.distributed.all_reduce(found, op=how)
    return found
