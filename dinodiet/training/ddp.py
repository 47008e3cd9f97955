"""A method of which every process has all, with the mean of all gradients (torch's DistributedDataParallel)."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterator

import torch
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from dinodiet.backbones.synced import sync_layers
from dinodiet.methods.base import MethodBase
from dinodiet.processes.gathering import averaged
from dinodiet.processes.rows import modules_draw_for
from dinodiet.training.exchange import Exchange
from dinodiet.training.shards import sharded_parameters
from dinodiet.types import Batch, Clock


class Replicated:
    """A strategy under which processes share the work and not the memory.

    `steady` says that the same parameters have gradients in every step, which lets torch plan ahead.

    Raises:
        UserError: a layer cannot work on a batch of several processes.
    """

    def __init__(self, method: MethodBase, exchange: Exchange, *, steady: bool) -> None:
        self.shards: Collection[nn.Parameter] = sharded_parameters(method).keys()
        self._method, self._exchange, self._steady = method, exchange, steady
        self._ddp: DistributedDataParallel | None = None

    def begin(self) -> None:
        """Have gradients averaged from now on."""
        sync_layers(self._method, own_statistics=not self._exchange.sync_batchnorm)
        ignored = list(self._method.own_parameters())
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self._method, ignored)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of the name broadcast_buffers, which older torch needs
            self._ddp = DistributedDataParallel(
                self._method,
                broadcast_buffers=False,  # they are the same everywhere: statistics and centres are those of all
                gradient_as_bucket_view=True,
                static_graph=self._steady,
                find_unused_parameters=not self._steady,
            )
        if self._exchange.rounds:
            self._ddp.register_comm_hook(None, bf16_compress_hook)

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the method makes of this process's part of a batch."""
        assert self._ddp is not None
        logs: dict[str, Tensor] = self._ddp(batch, clock)
        return logs

    @contextlib.contextmanager
    def part(self, images: int, *, last: bool) -> Iterator[None]:
        """Have modules draw as for all images, also where a pass is computed again; reduce for the last part alone."""
        assert self._ddp is not None
        with modules_draw_for(images), contextlib.nullcontext() if last else self._ddp.no_sync():
            yield

    def shared(self, logs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean over all processes of scalars."""
        return mean_logs(logs)

    @contextlib.contextmanager
    def whole(self) -> Iterator[MethodBase]:
        """Have the method."""
        yield self._method


@torch.no_grad()
def mean_logs(logs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the mean over all processes of scalars, from one reduction."""
    means = averaged(torch.stack([value.float() for value in logs.values()]))
    return dict(zip(logs, means.unbind(), strict=True))
