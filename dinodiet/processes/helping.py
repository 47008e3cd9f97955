"""Work of the first process that the others help with: each does every W-th piece, and the first has all in order.

The first one alone decides what is done, and in which order. The others do what it asks for until it says that there is
no more.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dinodiet.processes.gathering import alone, is_shared, rank, size
from dinodiet.processes.group import first_says, say
from dinodiet.processes.rows import WHOLE, Share

_MOST_DIMENSIONS = 8


class _State:
    task_of: Callable[..., Any] | None = None


@contextlib.contextmanager
def helped(task_of: Callable[..., Any]) -> Iterator[None]:
    """Compute as the first process does alone, but ask the others for their pieces of tasks; then let them go on.

    `task_of` is called with what `asked` is called with. It returns a task, which can be pickled, or None where the
    others lack what it needs.
    """
    before, _State.task_of = _State.task_of, task_of if is_shared() else None
    try:
        with alone():
            yield
    finally:
        _State.task_of = before
    first_says(None)


def asked(*what: Any, pieces: int) -> Share:
    """Ask the others for their pieces of a task, where they can help; return which pieces are this process's."""
    if _State.task_of is None or pieces < 2 or (task := _State.task_of(*what)) is None:
        return WHOLE
    say(task)
    return Share(0, dist.get_world_size())


def in_order_of(share: Share, own: Iterator[Tensor], pieces: int) -> Iterator[Tensor]:
    """Yield all pieces of a task in order: those of this process as they come, and those that the others send.

    Args:
        share: of `asked`.
        own: the pieces of this process.
        pieces: how many there are of all processes.
    """
    taken = 0
    try:
        for taken in range(1, pieces + 1):
            place = (taken - 1) % share.size
            yield _received(place) if place else next(own)
    except GeneratorExit:  # what the others send is taken all the same: they wait for that
        for number in range(taken, pieces):
            if place := number % share.size:
                _received(place)
        raise


def help_first(work: Callable[[Any, Share], Iterable[Tensor]]) -> None:
    """Send the first process this one's pieces of every task that it asks for, until there is no more.

    `work` returns them: float32, on the CPU, of at most 8 dimensions.
    """
    share = Share(rank(), size())
    while (task := first_says(None)) is not None:
        with alone():
            _send(work(task, share))


@dataclass(frozen=True)
class _Sending:
    """A piece on its way, which keeps its memory until it has arrived."""

    tensors: tuple[Tensor, Tensor]
    works: tuple[Any, Any]

    def wait(self) -> None:
        for one in self.works:
            one.wait()


def _send(pieces: Iterable[Tensor]) -> None:
    """Send pieces to the first process; the next one is computed while one is on its way."""
    last: _Sending | None = None
    for piece in pieces:
        if last is not None:
            last.wait()
        last = _sending(piece.contiguous())
    if last is not None:
        last.wait()


def _sending(piece: Tensor) -> _Sending:
    shape = torch.zeros(_MOST_DIMENSIONS, dtype=torch.int64)
    shape[: piece.ndim] = torch.tensor(piece.shape)
    return _Sending((shape, piece), (dist.isend(shape, 0), dist.isend(piece, 0)))


def _received(place: int) -> Tensor:
    shape = torch.empty(_MOST_DIMENSIONS, dtype=torch.int64)
    dist.recv(shape, place)
    piece = torch.empty([side for side in shape.tolist() if side])
    dist.recv(piece, place)
    return piece
