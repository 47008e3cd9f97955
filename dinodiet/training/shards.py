"""States of a training whose parameters are spread over processes; a checkpoint holds them whole.

A method spreads rows of its own (`own_parameters`), and FSDP splits all others. On the first process these are the
states that one process alone would have, with whole tensors in the host's memory. Any number of processes goes on from
them, by any strategy. Without such parameters all are as torch has them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from dinodiet.methods.base import MethodBase
from dinodiet.processes.sharding import Shard, collected
from dinodiet.processes.split import is_split, split_as, whole

KERNELS = ("fused", "foreach")  # settings of torch's optimisers that change results by rounding alone


def sharded_parameters(method: MethodBase) -> dict[nn.Parameter, Shard]:
    """Return the parameters of which this process holds some rows by the method's own doing, and which."""
    return {method.get_parameter(name): shard for name, shard in method.own_parameters().items()}


def whole_method(method: MethodBase) -> dict[str, Any]:
    """Return the state dict of a method with whole parameters; of other processes than the first without them.

    All processes call it. `load_state_dict` takes it after `own_method`.
    """
    own = method.own_parameters()
    state: dict[str, Any] = method.state_dict()
    for name, value in list(state.items()):
        state[name] = _whole(value, own.get(name))
        if state[name] is None:
            del state[name]
    return state


def own_method(state: dict[str, Any], method: MethodBase) -> dict[str, Any]:
    """Return what this process has of a whole state dict, for the method's `load_state_dict`.

    Rows that the method spreads it finds itself.
    """
    split = {name: value for name, value in method.state_dict().items() if is_split(value)}
    return {name: split_as(value, split[name]) if name in split else value for name, value in state.items()}


def whole_optimizer(optimizer: Optimizer, method: MethodBase) -> dict[str, Any]:
    """Return the state dict of an optimiser with whole tensors beside whole parameters, as `whole_method`."""

    def all_of(value: Tensor, parameter: nn.Parameter, shard: Shard | None) -> Tensor | None:
        found: Tensor | None = _whole(value, shard if value.shape == parameter.shape else None)
        return found

    return _changed(optimizer.state_dict(), optimizer, method, all_of)


def own_optimizer(state: dict[str, Any], optimizer: Optimizer, method: MethodBase) -> dict[str, Any]:
    """Return what this process has of a whole state dict, for the optimiser's `load_state_dict`.

    Which of torch's kernels it steps by stays as it is: another strategy has others.
    """

    def own(value: Tensor, parameter: nn.Parameter, shard: Shard | None) -> Tensor:
        if is_split(parameter) and value.shape == parameter.shape:
            return split_as(value, parameter)
        spread = shard is not None and value.shape == (shard.total, *parameter.shape[1:])
        return shard.of(value).clone() if shard is not None and spread else value

    groups = zip(state["param_groups"], optimizer.param_groups, strict=True)
    kernels = [{**given, **{key: group[key] for key in KERNELS if key in group}} for given, group in groups]
    return _changed({**state, "param_groups": kernels}, optimizer, method, own)


def _whole(value: Any, shard: Shard | None) -> Any:
    """Return a value of a state whole, None on other processes than the first where it is spread; all call it."""
    if shard is not None:
        return collected(value, shard)
    return whole(value) if is_split(value) else value


def _changed(
    state: dict[str, Any],
    optimizer: Optimizer,
    method: MethodBase,
    change: Callable[[Tensor, nn.Parameter, Shard | None], Tensor | None],
) -> dict[str, Any]:
    """Return a state dict with each tensor that belongs to a parameter changed; they go by their numbers."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    shards, kept = sharded_parameters(method), dict(state["state"])
    for number, parameter in enumerate(parameters):
        if number in kept:
            values = kept[number].items()
            kept[number] = {
                name: change(value, parameter, shards.get(parameter)) if isinstance(value, Tensor) else value
                for name, value in values
            }
    return {**state, "state": kept}
