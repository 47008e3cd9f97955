"""How a method is computed: by one process, or by several that each have a copy of it (DDP)."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from dinodiet.backbones.synced import sync_layers
from dinodiet.methods.base import MethodBase
from dinodiet.processes.gathering import averaged, is_shared
from dinodiet.processes.rows import modules_draw_for
from dinodiet.training.shards import sharded_parameters
from dinodiet.types import Batch, Clock, Method


class Strategy(Protocol):
    """What the loop asks of processes. `shards` are the parameters of which each process has other rows."""

    shards: Collection[nn.Parameter]

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the method makes of this process's part of a batch."""
        ...

    def part(self, images: int, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Return the context of a part of a step, forward and backward, with so many images of this process.

        Only after the last one are gradients those of all processes.
        """
        ...

    def shared(self, logs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean over all processes of scalars."""
        ...


class Alone:
    """One process."""

    shards: Collection[nn.Parameter] = ()

    def __init__(self, method: Method) -> None:
        self._method = method

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the method makes of a batch."""
        return self._method(batch, clock)

    def part(self, images: int, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()

    def shared(self, logs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the logs."""
        return logs


class Replicated:
    """Every process has all of the method, and the mean of all gradients (torch's DistributedDataParallel).

    `steady` says that the same parameters have gradients in every step, which lets torch plan ahead.

    Raises:
        UserError: a layer cannot work on a batch of several processes.
    """

    def __init__(self, method: MethodBase, *, steady: bool) -> None:
        sync_layers(method)
        self.shards: Collection[nn.Parameter] = sharded_parameters(method).keys()
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(method, list(method.own_parameters()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the name broadcast_buffers, which older torch needs
            self._ddp = DistributedDataParallel(
                method,
                broadcast_buffers=False,  # they are the same everywhere: statistics and centres are those of all
                gradient_as_bucket_view=True,
                static_graph=steady,
                find_unused_parameters=not steady,
            )

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the method makes of this process's part of a batch."""
        logs: dict[str, Tensor] = self._ddp(batch, clock)
        return logs

    @contextlib.contextmanager
    def part(self, images: int, *, last: bool) -> Iterator[None]:
        """Have modules draw as for all images, also where a pass is computed again; reduce for the last part alone."""
        with modules_draw_for(images), contextlib.nullcontext() if last else self._ddp.no_sync():
            yield

    @torch.no_grad()
    def shared(self, logs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean over all processes, from one reduction."""
        means = averaged(torch.stack([value.float() for value in logs.values()]))
        return dict(zip(logs, means.unbind(), strict=True))


def strategy_of(method: MethodBase, *, accumulate: int) -> Strategy:
    """Return how the processes that there are compute a method.

    Raises:
        UserError: a layer of it cannot work on a batch of several.
    """
    if not is_shared() or not method.trains:
        return Alone(method)
    return Replicated(method, steady=method.steady and accumulate == 1)
