"""When and where a run computes: its clock, its processes and its precision."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from dinodiet.processes.rows import WHOLE, RowGenerator, Share

Precision = Literal["fp32", "bf16", "fp16"]


AUTOCAST: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class World:
    """The only source of place: which process of a run this is (`rank`), of how many (`size`), and its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def share(self) -> Share:
        """Return which part of each batch this process computes."""
        return Share(self.rank, self.size)


@dataclass(frozen=True)
class Runtime:
    """How a run computes, as opposed to what. Of these only the precision changes numbers.

    `num_workers` counts the processes that decode images, `batch_size` the images of an evaluation's forward pass, and
    `cache` is the folder of what runs share (None: nothing is kept).
    """

    world: World = field(default_factory=World)
    precision: Precision = "fp32"
    num_workers: int = 0
    batch_size: int = 256
    cache: Path | None = None

    @property
    def device(self) -> torch.device:
        """Return the device of this process."""
        return self.world.device

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which forward passes run at this precision."""
        dtype = AUTOCAST[self.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None)


@dataclass(frozen=True)
class Clock:
    """The only source of time, and with the seed the only source of randomness in training.

    `step` counts optimiser steps from 0; `part` is the micro-batch within a step when gradients are accumulated.
    `share` is the part of a batch that this process computes.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    seed: int = 0
    part: int = 0
    share: Share = WHOLE

    @property
    def epoch(self) -> int:
        """Return the number of the running epoch, from 0."""
        return self.step // self.steps_per_epoch

    @property
    def total_epochs(self) -> float:
        """Return the length of the training in epochs."""
        return self.total_steps / self.steps_per_epoch

    def at(self, step: int) -> Clock:
        """Return this clock at another step."""
        return replace(self, step=step, part=0)

    def generator(self, stream: str) -> torch.Generator:
        """Return a CPU generator that depends on (seed, step, part, stream); it knows whose rows this process has."""
        text = f"{self.seed}/{self.step}/{self.part}/{stream}"
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
        if self.share.size == 1:
            return torch.Generator().manual_seed(seed)
        generator = RowGenerator()
        generator.share = self.share
        return generator.manual_seed(seed)
