"""How a method is computed: by one process, or by several that share the work, or the weights too."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dinodiet.config.schema import StrategyName
from dinodiet.methods.base import MethodBase
from dinodiet.processes.gathering import is_shared
from dinodiet.training.exchange import Exchange
from dinodiet.types import Batch, Clock, Method


class Strategy(Protocol):
    """What a training asks of processes. `shards` are the parameters of which each process has other rows."""

    shards: Collection[nn.Parameter]

    def begin(self) -> None:
        """Make the method ready to be trained, once; then its state may be restored."""
        ...

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

    def whole(self) -> contextlib.AbstractContextManager[MethodBase]:
        """Return the context in which the first process has the method with all weights; all processes enter it."""
        ...


class Alone:
    """One process."""

    shards: Collection[nn.Parameter] = ()

    def __init__(self, method: Method) -> None:
        self._method = method

    def begin(self) -> None:
        """Do nothing: the method is ready."""

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the method makes of a batch."""
        return self._method(batch, clock)

    def part(self, images: int, *, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()

    def shared(self, logs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the logs."""
        return logs

    def whole(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context that has the method."""
        return contextlib.nullcontext(self._method)


def strategy_of(
    name: StrategyName,
    method: MethodBase,
    optimizer: Optimizer,
    device: torch.device,
    exchange: Exchange,
    *,
    accumulate: int,
) -> Strategy:
    """Return how the processes that there are compute a method: `ddp`, `fsdp`, or alone where there is one.

    Raises:
        UserError: torch is too old for fsdp.
    """
    if not is_shared() or not method.trains:
        return Alone(method)
    if name == "fsdp":
        from dinodiet.training.fsdp import Split  # noqa: PLC0415 - imports much of torch

        return Split(method, optimizer, device, exchange)
    from dinodiet.training.ddp import Replicated  # noqa: PLC0415 - as above

    return Replicated(method, exchange, steady=method.steady and accumulate == 1)
