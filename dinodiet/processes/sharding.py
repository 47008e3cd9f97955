"""A tensor whose rows are spread over the processes of a training: which of them each holds, and all of them again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor

from dinodiet.processes.gathering import rank, size


@dataclass(frozen=True)
class Shard:
    """The rows from `start` to before `stop` of a tensor of `total` rows: what one process holds of it."""

    start: int
    stop: int
    total: int

    def __len__(self) -> int:
        """Return the number of rows, which may be 0."""
        return self.stop - self.start

    def of(self, whole: Tensor) -> Tensor:
        """Return these rows of a whole tensor, which they share the memory of."""
        return whole[self.start : self.stop]


def shard_of(total: int, place: int, count: int) -> Shard:
    """Return what the process `place` of `count` holds: as many rows as the others, the first ones one row more."""
    each, more = divmod(total, count)
    start = place * each + min(place, more)
    return Shard(start, start + each + (place < more), total)


def own_shard(total: int) -> Shard:
    """Return what this process holds of a tensor of so many rows."""
    return shard_of(total, rank(), size())


@torch.no_grad()
def collected(own: Tensor, shard: Shard) -> Tensor | None:
    """Return the whole tensor, in the host's memory, on the first process, and None on the others; all call it.

    The device never holds more of it than the shards of two processes. Of one process it is the tensor itself.
    """
    if size() == 1:
        return own
    if rank():
        if len(shard):
            torch.distributed.send(own.contiguous(), 0)
        return None
    whole = torch.empty(shard.total, *own.shape[1:], dtype=own.dtype)
    shard.of(whole).copy_(own)
    for place in range(1, size()):
        _receive_(shard_of(shard.total, place, size()).of(whole), place, own.device)
    return whole


def _receive_(rows: Tensor, place: int, device: torch.device) -> None:
    """Fill rows in the host's memory with what a process sends from its device; nothing is sent of none."""
    if len(rows):
        received = rows if device.type == "cpu" else torch.empty_like(rows, device=device)
        torch.distributed.recv(received, place)
        if received is not rows:
            rows.copy_(received)
