"""Targets of a self-distillation that are not the teacher's: labels, some of them wrong, or random predictions."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.ranges import Fraction, Seed, Temperature
from dinodiet.errors import UserError
from dinodiet.methods.parts.comparisons import Targets
from dinodiet.processes.rows import draw_rows
from dinodiet.types import Batch, Clock, DataSpec, Images


class GivenTargets(Protocol):
    """Targets that the images of a batch have, one for all views of an image.

    `split` is what is trained on; `labels` says whether outputs are the labels, so that the head is their classifier.
    """

    split: Literal["pretext", "train"]
    labels: bool

    def prepare(self, images: Images) -> None:
        """Draw once, before the first step, what is drawn for all images."""
        ...

    def __call__(self, batch: Batch, clock: Clock) -> Targets:
        """Return the targets (1, B, C) of a batch."""
        ...


class Labels:
    """The labels of the training images as one-hot targets, some of them drawn at random.

    Args:
        out_dim: number of outputs, which is that of the labels.
        spec: facts about the data.
        noise: part of the images whose label is drawn uniformly from all, their own included, so that
            noise x (1 - 1 / labels) of them are wrong. Exactly round(noise x images), drawn without replacement.
        resample: draw anew at every access: each label with probability `noise`.
        seed: of what is drawn once; what is drawn anew follows the run's.

    Raises:
        UserError: there are no labels, images have several, or the outputs are not as many.
    """

    split: Literal["pretext", "train"] = "train"
    labels = True

    def __init__(
        self,
        out_dim: int,
        spec: DataSpec,
        *,
        noise: Fraction[float] = 0.0,
        resample: bool = False,
        seed: Seed[int] = 0,
    ) -> None:
        _check(out_dim, spec)
        if resample and not noise:
            raise UserError("resample: true draws labels anew, and noise is 0: none is drawn; set noise, or false")
        self.num_labels, self.noise, self.resample, self.seed = spec.num_labels, noise, resample, seed
        self._drawn: Tensor | None = None

    def prepare(self, images: Images) -> None:
        """Draw which images have another label, and which."""
        generator = Clock(0, 0, 1, seed=self.seed).generator("label_noise")
        self._drawn = torch.full((len(images),), -1)
        chosen = torch.randperm(len(images), generator=generator)[: round(self.noise * len(images))]
        self._drawn[chosen] = torch.randint(self.num_labels, (len(chosen),), generator=generator)

    def __call__(self, batch: Batch, clock: Clock) -> Targets:
        """Return one-hot targets (1, B, labels), in float32; they are their own logits."""
        assert batch.label is not None
        drawn = self._anew(len(batch), clock) if self.resample else self._once(batch.index)
        labels = torch.where(drawn < 0, batch.label, drawn.to(batch.label.device))
        targets = F.one_hot(labels, self.num_labels).float()[None]
        return Targets(targets, targets)

    def _once(self, index: Tensor) -> Tensor:
        return torch.full_like(index, -1) if self._drawn is None else self._drawn.to(index.device)[index]

    def _anew(self, images: int, clock: Clock) -> Tensor:
        generator = clock.generator("label_noise")

        def draw(rows: int) -> Tensor:
            replaced = torch.rand(rows, generator=generator) < self.noise
            return torch.where(replaced, torch.randint(self.num_labels, (rows,), generator=generator), -1)

        return draw_rows(draw, images, generator)


class RandomTargets:
    """A random prediction for each image: the softmax of g / (sqrt(C) temperature), g standard normal in C outputs.

    Args:
        out_dim: number of outputs C.
        spec: facts about the data.
        temperature: the lower, the nearer to one output; the expected squared length of g / sqrt(C) is 1.
        resample: draw anew at every access, by the run's seed.
        seed: of what is drawn once for each image.
    """

    split: Literal["pretext", "train"] = "pretext"
    labels = False

    def __init__(
        self,
        out_dim: int,
        spec: DataSpec,
        *,
        temperature: Temperature[float] = 1.0,
        resample: bool = False,
        seed: Seed[int] = 0,
    ) -> None:
        self.out_dim, self.resample, self.seed = out_dim, resample, seed
        self.scale = 1 / (math.sqrt(out_dim) * temperature)

    def prepare(self, images: Images) -> None:
        """Draw nothing: a prediction depends on the seed and the position of its image alone."""

    def __call__(self, batch: Batch, clock: Clock) -> Targets:
        """Return the targets (1, B, C), in float32."""
        drawn = self._anew(len(batch), clock) if self.resample else self._once(batch.index)
        logits = (drawn * self.scale).to(batch.index.device)[None]
        return Targets(logits, logits.softmax(-1))

    def _once(self, index: Tensor) -> Tensor:
        clocks = [Clock(place, 0, 1, seed=self.seed) for place in index.tolist()]
        return torch.stack([torch.randn(self.out_dim, generator=clock.generator("targets")) for clock in clocks])

    def _anew(self, images: int, clock: Clock) -> Tensor:
        generator = clock.generator("targets")
        return draw_rows(lambda rows: torch.randn(rows, self.out_dim, generator=generator), images, generator)


def _check(out_dim: int, spec: DataSpec) -> None:
    if not spec.labelled:
        raise UserError(f"targets: they are the labels, and {spec.name} has none; choose another dataset, or null")
    if spec.multilabel:
        raise UserError(f"targets: they are one label an image, and images of {spec.name} have several; choose null")
    if out_dim != spec.num_labels:
        raise UserError(
            f"head.out_dim: {out_dim}, but the targets are the {spec.num_labels} labels; set it to {spec.num_labels}"
        )
