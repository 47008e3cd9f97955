"""A method of which every process has a part: weights, gradients, optimiser state (torch's FSDP2, `fully_shard`)."""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Optimizer

from dinodiet.backbones.synced import sync_layers
from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.processes.gathering import rank, size
from dinodiet.processes.rows import modules_draw_for
from dinodiet.training.blocks import blocks_of
from dinodiet.training.ddp import mean_logs
from dinodiet.training.exchange import Exchange
from dinodiet.training.shards import whole_method
from dinodiet.types import Batch, Clock


class Split:
    """A strategy under which every block is put together where it is computed, and lies in parts otherwise.

    The first process keeps a copy of the method on the host, for what it does alone with all weights.

    Args:
        method: on the host or the device, as a whole; `begin` splits it.
        optimizer: over its parameters; `begin` puts their parts in their place.
        device: of this process.
        exchange: what processes send each other.

    Raises:
        UserError: torch is too old, or a layer cannot work on a batch of several processes.
    """

    def __init__(self, method: MethodBase, optimizer: Optimizer, device: torch.device, exchange: Exchange) -> None:
        check_torch()
        self.shards: Collection[nn.Parameter] = ()
        self._method, self._optimizer, self._device, self._exchange = method, optimizer, device, exchange
        self._copy = copy.deepcopy(method).cpu() if rank() == 0 else None

    def begin(self) -> None:
        """Split the method; what was loaded before is split with it, what is loaded later by `restore`."""
        sync_layers(self._method, own_statistics=not self._exchange.sync_batchnorm)
        before = dict(self._method.named_parameters())
        split_method(self._method, self._device, self._exchange.reduce_dtype)
        parts = {id(old): self._method.get_parameter(name) for name, old in before.items()}
        for group in self._optimizer.param_groups:
            group["params"] = [parts[id(parameter)] for parameter in group["params"]]
            if isinstance(self._optimizer, torch.optim.SGD) and group["fused"]:  # torch has no such kernel for parts
                group.update(fused=False, foreach=True)
        self.shards = list(self._method.parameters())

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return what the method makes of this process's part of a batch."""
        logs: dict[str, Tensor] = self._method(batch, clock)
        return logs

    @contextlib.contextmanager
    def part(self, images: int, *, last: bool) -> Iterator[None]:
        """Have modules draw as for all images, also where a pass is computed again; reduce for the last part alone."""
        root: Any = self._method
        root.set_requires_gradient_sync(last)
        root.set_is_last_backward(last)
        with modules_draw_for(images):
            yield

    def shared(self, logs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean over all processes of scalars."""
        return mean_logs(logs)

    @contextlib.contextmanager
    def whole(self) -> Iterator[MethodBase]:
        """Have the method with all weights on the first process's device; all processes call it."""
        state = whole_method(self._method)
        if self._copy is None:
            yield self._method
            return
        self._copy.load_state_dict(state)
        self._copy.to(self._device)
        try:
            yield self._copy
        finally:
            self._copy.cpu()


def check_torch() -> None:
    """Refuse a torch whose FSDP cannot leave parameters out.

    Raises:
        UserError: it is older than 2.7.
    """
    from torch.distributed.fsdp import fully_shard  # noqa: PLC0415 - most of a second, for those who use it

    if "ignored_params" not in inspect.signature(fully_shard).parameters:
        raise UserError(f"strategy: fsdp needs torch 2.7 or newer, and this is {torch.__version__}; choose ddp")


def split_method(method: MethodBase, device: torch.device, reduce_dtype: torch.dtype = torch.float32) -> None:
    """Split a method's parameters over all processes, block by block; what is in no block is split together.

    Rows that the method spreads itself are left out. Weights travel in float32, and autocast chooses the precision of
    each operation, as with one process: norms would not take weights in bf16 everywhere.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: PLC0415 - as above

    for parameter in method.parameters():
        parameter.data = parameter.data.contiguous()  # in the order of dimensions, of which FSDP cuts the first
    ignored = {method.get_parameter(name) for name in method.own_parameters()}
    mesh = init_device_mesh(device.type, (size(),))
    policy = MixedPrecisionPolicy(reduce_dtype=reduce_dtype, cast_forward_inputs=False)
    for block in blocks_of(method):
        fully_shard(block, mesh=mesh, mp_policy=policy, ignored_params=ignored)
    fully_shard(method, mesh=mesh, mp_policy=policy, ignored_params=ignored, reshard_after_forward=False)
