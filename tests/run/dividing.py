"""What real processes (gloo) hold of a training, in bytes, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.optim import Optimizer

from dinodiet.config.settings import Settings, settings_of
from dinodiet.run.parts import Parts, build_parts
from dinodiet.run.train import begin, train
from dinodiet.training.fsdp import split_method
from dinodiet.types import Batch, Clock
from tests.running import CHOICES, TINY, composed


class Enough(Exception):  # noqa: N818
    """Ends a training."""


def settings(folder: Path, words: Sequence[str]) -> Settings:
    return settings_of(composed(folder, *words, base=TINY), CHOICES)


def bytes_here(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of what this process has of tensors."""
    own = [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in tensors]
    return sum(tensor.numel() * tensor.element_size() for tensor in own)


def held_by(parameters: Iterable[Tensor], buffers: Iterable[Tensor], optimizer: Optimizer) -> int:
    """Return the bytes of weights, gradients, and of the optimiser's state that is as large as they."""
    states = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    weights = [*parameters]
    return bytes_here([*weights, *buffers, *states, *(one.grad for one in weights if one.grad is not None)])


def held_by_each(cases: Mapping[str, Sequence[str]], folder: Path) -> dict[str, int]:
    """Return what a process holds of each case, which fsdp divides or not, as its words say."""
    return {
        name: (held_when_sharded if "strategy=fsdp" in words else held_in_training)(words, folder)
        for name, words in cases.items()
    }


def held_in_training(words: Sequence[str], folder: Path) -> int:
    """Return what a process holds at the gradients of a third step, when the optimiser has its state."""
    parts, found = build_parts(settings(folder, words)), 0

    def measure(clock: Clock, _: Batch) -> None:
        nonlocal found
        if clock.step == 2:
            found = held_by(parts.method.parameters(), parts.method.buffers(), parts.state.optimizer)
            raise Enough

    begin(parts)
    try:
        train(parts, lambda *_: None, measure)
    except Enough:
        return found
    raise AssertionError("the training is too short")


def held_when_sharded(words: Sequence[str], folder: Path) -> int:
    """Return what a process holds of a method that is split, after two steps of AdamW."""
    parts = build_parts(settings(folder, words))
    split_method(parts.method, parts.runtime.device)
    optimizer = torch.optim.AdamW(parameter for parameter in parts.method.parameters() if parameter.requires_grad)
    return _after_steps(parts, optimizer)


def _after_steps(parts: Parts, optimizer: Optimizer) -> int:
    batches = parts.loader.batches(0)
    for step in range(2):
        optimizer.zero_grad()
        torch.autograd.backward(parts.method(next(batches), parts.state.clock.at(step))["loss"])
        optimizer.step()
    return held_by(parts.method.parameters(), parts.method.buffers(), optimizer)
