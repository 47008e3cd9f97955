"""The normalisation of convolutional networks, exchanged: other statistics, the same scales and shifts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from dinodiet.errors import UserError

Norm = Literal["batch", "instance", "group8", "layer", "none"]
_MADE: dict[Norm, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.GroupNorm(channels, channels),
    "group8": lambda channels: nn.GroupNorm(channels // 8, channels),
    "layer": lambda channels: nn.GroupNorm(1, channels),
    "none": lambda channels: nn.Identity(),
}


def norm_of(norm: Norm | None, weights: str) -> Norm | None:
    """Return the wanted normalisation.

    Raises:
        UserError: the weights are the publisher's, which have another.
    """
    if norm is not None and weights in ("hub", "package"):
        raise UserError(f"norm: {norm}, but the weights of {weights} are those of the own norms; choose weights=none")
    return norm


def exchange_norms(network: nn.Module, norm: Norm, name: str) -> None:
    """Put another normalisation in the place of every BatchNorm2d, in place; all but `none` have 2 C parameters.

    `instance` normalises each channel of an image, `group8` groups of 8 channels (Wu and He 2018, arXiv:1803.08494),
    `layer` all of them: what an image becomes then does not depend on the rest of its batch.

    Raises:
        UserError: there is none, one has an activation inside, or a number of channels that 8 does not divide.
    """
    found = {key: module for key, module in network.named_modules() if isinstance(module, _BatchNorm)}
    if not found:
        raise UserError(f"norm: {norm}, but {name} has no BatchNorm to exchange; leave it null")
    for key, module in found.items():
        if type(module) is not nn.BatchNorm2d:
            raise UserError(f"norm: {norm}, but the {type(module).__name__} of {name} has more inside; leave it null")
        if norm == "group8" and module.num_features % 8:
            others = ", ".join(kind for kind in _MADE if kind != norm)
            raise UserError(
                f"norm: group8, but {name} has {module.num_features} channels at {key}; choose from: {others}"
            )
        parent, _, child = key.rpartition(".")
        setattr(network.get_submodule(parent), child, _MADE[norm](module.num_features))
