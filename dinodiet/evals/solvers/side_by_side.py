"""Training of probes on tokens for several learning rates and weight decays at once: tokens are read once for all."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import AdamW
from tqdm import tqdm

from dinodiet.config.ranges import AtLeastOne, NonNegative, Positive, Range, Seed
from dinodiet.errors import UserError
from dinodiet.evals.solvers.pooling import Probes
from dinodiet.io.bars import interval


class Candidate(NamedTuple):
    """The settings that are chosen on validation."""

    lr: float
    weight_decay: float


class Make(Protocol):
    """Makes so many equal probes."""

    def __call__(self, count: int, generator: torch.Generator) -> Probes:
        """Return them; the generator decides their first weights."""
        ...


@dataclass(frozen=True)
class Examples:
    """Tokens (N, T, D), wherever they lie, and labels (N,) of classes or (N, K) of 0 and 1; `rows` of them, rising."""

    tokens: Tensor
    labels: Tensor
    rows: Tensor

    def batch(self, positions: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return tokens, float32, and labels of some of the rows."""
        rows = self.rows[positions]
        tokens = self.tokens[rows.to(self.tokens.device)].to(device).float()
        return tokens, self.labels[rows].to(device)


@dataclass(frozen=True, kw_only=True)
class ProbeTraining:
    """AdamW with a cosine from `lr` to 0, without warm-up, for `epochs` but at least `min_steps`.

    Each pair of `lr` and `weight_decay` is a candidate; which is best is for the caller to say. All start from the same
    weights and see the same batches, of about `batch_size` images: an epoch is cut into equal ones. `seed` decides
    both.

    Raises:
        UserError: a list is empty.
    """

    lr: Positive[float | list[float]] = field(default_factory=lambda: [3e-4, 1e-3, 3e-3])
    weight_decay: NonNegative[float | list[float]] = field(default_factory=lambda: [0.0, 0.05])
    epochs: AtLeastOne[int] = 100
    min_steps: NonNegative[int] = 2000
    batch_size: Annotated[int, Range(2, 2**20)] = 256
    seed: Seed[int] = 0

    def __post_init__(self) -> None:
        for name in ("lr", "weight_decay"):
            if getattr(self, name) == []:
                raise UserError(f"{name}: []; give a number, or a list of them")

    @property
    def candidates(self) -> list[Candidate]:
        """Return every pair, from the smallest learning rate and decay on."""
        return [Candidate(*pair) for pair in itertools.product(_rising(self.lr), _rising(self.weight_decay))]

    def fit(self, make: Make, examples: Examples, candidates: list[Candidate], device: torch.device) -> Probes:
        """Return trained probes, one a candidate, in eval mode."""
        generator = torch.Generator().manual_seed(self.seed)
        probes = make(len(candidates), generator).to(device)
        rows = _rows_of(probes)
        optimizer = AdamW([{"params": row, **pair._asdict()} for row, pair in zip(rows, candidates, strict=True)])
        steps = max(self.epochs * self._batches(len(examples.rows)), self.min_steps)
        for step in tqdm(range(steps), desc="probes", unit="step", mininterval=interval(), leave=False, delay=2):
            if step % self._batches(len(examples.rows)) == 0:
                order = self._epoch(len(examples.rows), generator)
            for group, pair in zip(optimizer.param_groups, candidates, strict=True):
                group["lr"] = pair.lr * (1 + math.cos(math.pi * step / steps)) / 2
            with torch.enable_grad():
                loss_of(probes, *examples.batch(next(order), device)).backward()
            _share_gradients(probes, rows)
            optimizer.step()
        return probes.eval()

    def _batches(self, count: int) -> int:
        return max(min(math.ceil(count / self.batch_size), count // 2), 1)  # of two images or more, for batch norm

    def _epoch(self, count: int, generator: torch.Generator) -> Iterator[Tensor]:
        parts = torch.randperm(count, generator=generator).tensor_split(self._batches(count))
        return (part.sort().values for part in parts)  # neighbours in a file are read together

    @torch.no_grad()
    def scores(self, probes: Probes, examples: Examples, device: torch.device) -> Tensor:
        """Return the logits (R, N, K) of trained probes, on the CPU."""
        parts = torch.arange(len(examples.rows)).split(self.batch_size)
        rows = [probes(examples.batch(part, device)[0]).cpu() for part in parts]
        return torch.cat(rows, dim=1)


def loss_of(probes: Probes, tokens: Tensor, labels: Tensor) -> Tensor:
    """Return the sum over the probes of their mean loss, so that a probe's gradient depends on its own alone.

    Cross-entropy; where there are several labels to an image, the binary one of each.
    """
    logits = probes(tokens)
    if labels.ndim == 2:
        expected = labels.to(logits.dtype).expand_as(logits)
        return F.binary_cross_entropy_with_logits(logits, expected) * len(logits)
    return F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits))) * len(logits)


def _rising(values: float | list[float]) -> list[float]:
    return sorted(values) if isinstance(values, list) else [values]


def _rows_of(probes: Probes) -> list[list[Tensor]]:
    """Return each probe's part of parameters, in their memory: an optimiser steps each with settings of its own."""
    count = len(next(probes.parameters()))
    return [[parameter.detach()[number] for parameter in probes.parameters()] for number in range(count)]


def _share_gradients(probes: Probes, rows: list[list[Tensor]]) -> None:
    """Hand the rows their part of the gradients, and take those from the probes."""
    for place, parameter in enumerate(probes.parameters()):
        gradient, parameter.grad = parameter.grad, None
        assert gradient is not None
        for number, row in enumerate(rows):
            row[place].grad = gradient[number]
