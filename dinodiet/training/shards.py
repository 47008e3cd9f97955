"""States of a training whose method has parameters that are spread over processes; a checkpoint holds them whole.

On the first process these are the states that one process alone would have, with whole tensors in the host's memory.
Any number of processes goes on from them. Without such parameters all are as torch has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from dinodiet.methods.base import MethodBase
from dinodiet.processes.sharding import Shard, collected


def sharded_parameters(method: MethodBase) -> dict[nn.Parameter, Shard]:
    """Return the parameters of which this process holds some rows, and which."""
    return {method.get_parameter(name): shard for name, shard in method.own_parameters().items()}


def whole_method(method: MethodBase) -> dict[str, Any]:
    """Return the state dict of a method with whole parameters; of other processes than the first without them.

    All processes call it. `load_state_dict` takes it: a parameter that is spread finds its own rows.
    """
    state = method.state_dict()
    for name, shard in method.own_parameters().items():
        whole = collected(state.pop(name), shard)
        if whole is not None:
            state[name] = whole
    return state


def whole_optimizer(optimizer: Optimizer, method: MethodBase) -> dict[str, Any]:
    """Return the state dict of an optimiser with whole tensors beside whole parameters, as `whole_method`."""

    def whole(value: Tensor, parameter: nn.Parameter, shard: Shard) -> Tensor | None:
        return collected(value, shard) if value.shape == parameter.shape else value

    return _changed(optimizer.state_dict(), optimizer, method, whole)


def own_optimizer(state: dict[str, Any], optimizer: Optimizer, method: MethodBase) -> dict[str, Any]:
    """Return what this process has of a whole state dict, for the optimiser's `load_state_dict`."""

    def own(value: Tensor, parameter: nn.Parameter, shard: Shard) -> Tensor:
        return shard.of(value).clone() if value.shape == (shard.total, *parameter.shape[1:]) else value

    return _changed(state, optimizer, method, own)


def _changed(
    state: dict[str, Any],
    optimizer: Optimizer,
    method: MethodBase,
    change: Callable[[Tensor, nn.Parameter, Shard], Tensor | None],
) -> dict[str, Any]:
    """Return a state dict with each tensor that belongs to a spread parameter changed; they go by their numbers."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shards, kept = sharded_parameters(method), dict(state["state"])
    for number, parameter in enumerate(parameters):
        if parameter in shards and number in kept:
            values = kept[number].items()
            kept[number] = {
                name: change(value, parameter, shards[parameter]) if isinstance(value, Tensor) else value
                for name, value in values
            }
    return {**state, "state": kept}
