"""Joining the processes of a run, and what they agree on."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from dinodiet.processes.gathering import is_shared
from dinodiet.processes.heartbeat import Silent, silence_minutes, watched
from dinodiet.processes.place import Place
from dinodiet.processes.rendezvous import rendezvous

WAITING = 1.5  # times as long as a silent process is given up after: for one that lives and takes no part in a step
PATIENCE = timedelta(days=7)  # of those who wait for the first one to score or to write; its death ends them at once


@contextlib.contextmanager
def joined(place: Place, on_silent: Callable[[Silent], object] = lambda silent: None) -> Iterator[None]:
    """Be one of the processes of a run. Tensors on GPUs go through NCCL, others through gloo.

    `on_silent` is called, in a thread of its own, where another one gives no sign of life for too long.

    Raises:
        UserError: the environment says no number of minutes for that.
    """
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    patience = timedelta(minutes=WAITING * silence_minutes())
    found = _rendezvous(place, patience)
    dist.init_process_group(backend, rank=place.rank, world_size=place.size, timeout=patience, **found)
    _waiting.append(dist.new_group(backend="gloo", timeout=PATIENCE))
    try:
        with watched(place.rank, _of_all, on_silent):
            yield
            wait_for_all()  # who ends early is taken for one that died
    finally:
        _waiting.clear()
        dist.destroy_process_group()


def _rendezvous(place: Place, patience: timedelta) -> dict[str, Any]:
    if isinstance(place.rendezvous, str):
        return {"init_method": place.rendezvous}
    return {"store": rendezvous(place, place.rendezvous, patience)}


def _of_all(value: Any) -> list[Any]:
    """Return the values of all processes, in the order of their ranks."""
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value, group=_waiting[0])
    return found


def of_all(value: Any) -> list[Any]:
    """Return the values of all processes, in the order of their ranks; each has to ask."""
    return _of_all(value) if is_shared() else [value]


_waiting: list[Any] = []  # the group of those who wait long


def wait_for_all() -> None:
    """Wait until every process has come here; however long the first one scores or writes."""
    if is_shared():
        dist.barrier(group=_waiting[0])


def first_says(value: Any) -> Any:
    """Return the first process's value in all of them, however long it takes to find it."""
    return say(value) if is_shared() else value


def say(value: Any) -> Any:
    """Return the first process's value in all of them, also where it computes alone."""
    said = [value if dist.get_rank() == 0 else None]
    dist.broadcast_object_list(said, src=0, group=_waiting[0])
    return said[0]


def any_of(wishes: list[bool]) -> list[bool]:
    """Return, wish by wish, whether any process has it; all are asked in the same step."""
    if not is_shared():
        return wishes
    asked = torch.tensor(wishes, dtype=torch.uint8)
    dist.all_reduce(asked, op=dist.ReduceOp.MAX)
    return [bool(answer) for answer in asked.tolist()]
