"""Whether a training did what it was to do: all its steps, open parameters moved, frozen ones not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.schedules import Scalar, at
from dinodiet.types import Clock

BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by the bytes of a number
LOOKS = 64  # at the rate, over the training
MOST_NAMED = 3

Sums = dict[str, dict[str, int]]  # of `open` and of `frozen` tensors, by name


class InvalidTrainingError(UserError):
    """A training came to its end and is none: its results would be wrong."""


@dataclass(frozen=True)
class Movement:
    """How many parameters of the encoder were to be trained, and moved; how many not, and which changed all the same.

    Buffers of frozen layers, such as running statistics, count as frozen.
    """

    open: int
    moved: int
    frozen: int
    changed: tuple[str, ...]

    def told(self) -> dict[str, int]:
        """Return what `results.json` says of it."""
        return {"open": self.open, "moved": self.moved, "frozen": self.frozen, "changed": len(self.changed)}


def sums(encoder: nn.Module) -> Sums:
    """Return what to compare an encoder with later: the sum of the bits of each tensor, exact on every device."""
    found: Sums = {"open": {}, "frozen": {}}
    for name, value, is_open in _tensors(encoder):
        found["open" if is_open else "frozen"][name] = _sum_of_bits(value)
    return found


def movement(start: Mapping[str, Mapping[str, int]], encoder: nn.Module) -> Movement:
    """Compare an encoder with what `sums` said of it. What is open is what was open then."""
    now = {name: _sum_of_bits(value) for name, value, _ in _tensors(encoder)}
    opened, frozen = start["open"], start["frozen"]
    moved = sum(now.get(name) != value for name, value in opened.items())
    return Movement(len(opened), moved, len(frozen), tuple(name for name in frozen if now.get(name) != frozen[name]))


def checked(start: Sums | None, method: MethodBase, lr: Scalar, clock: Clock) -> dict[str, Any]:
    """Return what `results.json` says of how an encoder moved; nothing where none is trained, or its start is unknown.

    Raises:
        InvalidTrainingError: as `check_training`.
    """
    if start is None or not method.trains:
        return {}
    found = movement(start, method.towers()[0])
    check_training(found, method, lr, clock)
    return {"moved": found.told()}


def check_training(found: Movement, method: MethodBase, lr: Scalar, clock: Clock) -> None:
    """Refuse what is no training.

    Args:
        found: how the encoder moved.
        method: that was trained.
        lr: the rate of its backbone.
        clock: after the last step that was done.

    Raises:
        InvalidTrainingError: steps are missing, frozen parameters moved, or open ones did not.
    """
    if clock.step != clock.total_steps:
        raise InvalidTrainingError(f"training: {clock.step:,} of {clock.total_steps:,} steps were done")
    if found.changed:
        more = ", ..." if len(found.changed) > MOST_NAMED else ""
        named = ", ".join(found.changed[:MOST_NAMED])
        raise InvalidTrainingError(
            f"training: {len(found.changed)} of {found.frozen} frozen parameters and statistics changed: {named}{more}"
        )
    if found.open and not found.moved and _is_to_move(method, lr, clock):
        raise InvalidTrainingError(
            f"training: none of {found.open} open parameters of the backbone changed in {clock.total_steps:,} steps; "
            "where only a head is to be trained, set method.trainable=head_only"
        )


def _is_to_move(method: MethodBase, lr: Scalar, clock: Clock) -> bool:
    """Return whether the backbone has a rate above 0 at some step at which it does not wait."""
    stride = max(clock.total_steps // LOOKS, 1)
    looks = (clock.at(step) for step in (*range(0, clock.total_steps, stride), clock.total_steps - 1))
    return any(at(lr, look) > 0 and not method.backbone_waits(look) for look in looks if look.step >= 0)


def _tensors(encoder: nn.Module) -> Iterator[tuple[str, Tensor, bool]]:
    """Yield the parameters by name, and the buffers of layers of which nothing is trained; and whether each is open."""
    for name, parameter in encoder.named_parameters():
        yield name, parameter, parameter.requires_grad
    for prefix, module in encoder.named_modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            for name, buffer in module.named_buffers(prefix, recurse=False):
                yield name, buffer, False


def _sum_of_bits(value: Tensor) -> int:
    value = value.detach()
    if value.is_complex():
        value = torch.view_as_real(value)
    bits: Any = value.view(BITS[value.element_size()])
    return int(bits.sum(dtype=torch.int64).item())
