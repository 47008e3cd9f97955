"""Rows of all processes of a training, for losses that compare the images of a whole batch."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor


def gathered(rows: Tensor) -> Tensor:
    """Return the rows (W x N, ...) of all W processes in the order of their ranks; of one process the rows as they are.

    All have equally many. A gradient goes back to the process whose row it is, summed over the losses of all.
    """
    if not is_shared():
        return rows
    from torch.distributed.nn.functional import all_gather  # noqa: PLC0415 - not in every build of torch

    found: tuple[Tensor, ...] = all_gather(rows)
    return torch.cat(found)


def rank() -> int:
    """Return the place of this process among those that gather."""
    return torch.distributed.get_rank() if is_shared() else 0


def is_shared() -> bool:
    """Return whether there are other processes."""
    shared = torch.distributed
    return shared.is_available() and shared.is_initialized() and shared.get_world_size() > 1
