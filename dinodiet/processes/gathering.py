"""What all processes of a training have, as if it were computed in one: rows one behind another, sums, largest values.

Without a process group every function returns what it is given.
"""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor


def is_shared() -> bool:
    """Return whether there are other processes."""
    shared = torch.distributed
    return shared.is_available() and shared.is_initialized() and shared.get_world_size() > 1


def rank() -> int:
    """Return the place of this process among all, from 0."""
    return torch.distributed.get_rank() if is_shared() else 0


def size() -> int:
    """Return the number of processes W."""
    return torch.distributed.get_world_size() if is_shared() else 1


def gathered(rows: Tensor) -> Tensor:
    """Return the rows (W x N, ...) of all W processes in the order of their ranks; of one process the rows as they are.

    All have equally many. A gradient goes back to the process whose row it is, summed over the losses of all.
    """
    if not is_shared():
        return rows
    from torch.distributed.nn.functional import all_gather  # noqa: PLC0415 - not in every build of torch

    found: tuple[Tensor, ...] = all_gather(rows.contiguous())
    return torch.cat(found)


def summed(value: Tensor) -> Tensor:
    """Return the sum of a value over all processes; its gradient is the sum of their gradients."""
    if not is_shared():
        return value
    from torch.distributed.nn.functional import all_reduce  # noqa: PLC0415 - not in every build of torch

    total: Tensor = all_reduce(value.clone())
    return total


def averaged(value: Tensor) -> Tensor:
    """Return the mean of a value over all processes; its gradient is the mean of their gradients."""
    return summed(value) / size()


def largest(value: Tensor) -> Tensor:
    """Return the largest of a value, number by number, over all processes; without a gradient."""
    value = value.detach()
    if not is_shared():
        return value
    value = value.clone()
    torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
    return value
