"""Tensors that FSDP splits over processes along their first dimension (torch's DTensor): own rows, and all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dinodiet.processes.gathering import rank, size


def is_split(tensor: Tensor) -> bool:
    """Return whether this process has a part of a tensor. DTensor's class takes most of a second to import."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """Return the rows of a tensor that this process has, which may be none; what is not split is returned itself."""
    own: Any = tensor
    found: Tensor = own.to_local() if is_split(tensor) else tensor
    return found


@torch.no_grad()
def whole(tensor: Tensor) -> Tensor | None:
    """Return a split tensor whole, in the host's memory, on the first process, None on the others; all call it."""
    split: Any = tensor
    found: Tensor = split.full_tensor()
    return None if rank() else found.cpu()


@torch.no_grad()
def split_as(values: Tensor, like: Tensor) -> Tensor:
    """Return whole values split as another tensor of their shape is; every process has them, nothing is sent."""
    split = torch.zeros_like(like, dtype=values.dtype)
    own = values.chunk(size())  # FSDP cuts as torch does; of few rows the last processes have none
    if rank() < len(own):
        local(split).copy_(own[rank()])
    return split
