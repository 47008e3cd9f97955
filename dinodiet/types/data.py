"""Images, splits, batches, and what is known of a dataset and of a backbone's input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from dinodiet.processes.batches import part_size

Interpolation = Literal["bilinear", "bicubic"]
Rule = Literal["random", "balanced", "proportional"]  # how a limited set is chosen
Channels = tuple[float, float, float]


@dataclass(frozen=True)
class InputSpec:
    """What a backbone's weights expect of their input.

    `size` is the side of the square input in pixels, `mean` and `std` are per RGB channel on a 0-1 scale,
    `crop_fraction` is the part of the shorter side that the evaluation's centre crop keeps, and every crop's
    side must be a multiple of `divisor` (the patch size of a transformer).
    """

    size: int
    mean: Channels
    std: Channels
    interpolation: Interpolation = "bicubic"
    crop_fraction: float = 1.0
    divisor: int = 1


@dataclass(frozen=True)
class Statistics:
    """Mean and deviation of a dataset's pixels per RGB channel on a 0-1 scale, and where the numbers are from."""

    mean: Channels
    std: Channels
    origin: str = "published"


@dataclass(frozen=True)
class Selection:
    """How images were chosen of more: by which rule, how many of how many, and the seed."""

    rule: Rule
    images: int
    available: int
    seed: int

    @property
    def uses_labels(self) -> bool:
        """Return whether labels had a part in the choice."""
        return self.rule != "random"


@dataclass(frozen=True)
class DataSpec:
    """The facts about a dataset that backbones and methods are built from.

    `num_images` counts the images that self-supervised training sees (the pretext split), `num_labels` the classes,
    or the binary labels of a multi-label set; 0: the images have no labels at all. `image_size` is the side at which
    the backbone should see the images; None leaves it to the weights. `native_size` is the side of the stored images,
    None where they differ. `classes` are the names of the labels in their order, None where none are known; they change
    no number, and two specifications that differ in nothing else are equal. `statistics` are what a backbone normalises
    by in place of its weights' own, see `normalization`; None: the weights' own.
    """

    name: str
    num_images: int
    num_labels: int
    multilabel: bool = False
    pretext_labelled: bool = True
    image_size: int | None = None
    native_size: int | None = None
    classes: tuple[str, ...] | None = field(default=None, compare=False)
    statistics: Statistics | None = None

    def normalization(self, mean: Channels, std: Channels) -> tuple[Channels, Channels]:
        """Return the mean and deviation that a backbone normalises by; given are those of its weights."""
        return (mean, std) if self.statistics is None else (self.statistics.mean, self.statistics.std)

    @property
    def labelled(self) -> bool:
        """Return whether there are labels to fit probes on and to score."""
        return self.num_labels > 0


class Images(Protocol):
    """A split: decoded images by position, with their labels.

    `labels` is int64 (N,), or (N, L) of 0/1 for a multi-label set, or None where there are none.
    """

    labels: Tensor | None

    def __len__(self) -> int: ...

    def __getitem__(self, position: int) -> Tensor:
        """Return one image, uint8 (3, H, W)."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of the content: equal for equal images in equal order."""
        ...


@dataclass(frozen=True)
class Data:
    """An opened dataset: `pretext` for self-supervised training; fit on `train`, choose on `val`, report on `test`.

    Of images without labels nothing is held out: `train` is `pretext`, and `val` and `test` are empty. `selection` says
    how `pretext` was chosen where it is limited, `labelled` how the images of `train` were, which alone keep their
    labels. `left_out` counts broken images that are in no split. `unseen` are the labelled
    training images that are not in `pretext`; None: there are none.
    """

    spec: DataSpec
    pretext: Images
    train: Images
    val: Images
    test: Images
    selection: Selection | None = None
    labelled: Selection | None = None
    left_out: int = 0
    unseen: Images | None = None


@dataclass(frozen=True)
class Batch:
    """Images as they come from the loader: uint8 (B, 3, H, W), or a list of B (3, H, W) where sizes differ.

    `label` is as in `Images.labels`, `index` the int64 (B,) position of each image in the pretext split.
    """

    images: Tensor | list[Tensor]
    label: Tensor | None
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""
        images = self.images
        return Batch(
            images=images.to(device, non_blocking=True)
            if isinstance(images, Tensor)
            else [image.to(device, non_blocking=True) for image in images],
            label=None if self.label is None else self.label.to(device, non_blocking=True),
            index=self.index.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, from which a GPU copies while it computes; a loader calls this."""
        images = self.images
        return Batch(
            images=images.pin_memory() if isinstance(images, Tensor) else [image.pin_memory() for image in images],
            label=None if self.label is None else self.label.pin_memory(),
            index=self.index.pin_memory(),
        )

    def tensors(self) -> list[Tensor]:
        """Return all tensors of the batch."""
        images = [self.images] if isinstance(self.images, Tensor) else self.images
        return [*images, self.index, *([] if self.label is None else [self.label])]

    def split(self, parts: int) -> Iterator[Batch]:
        """Yield `parts` equal consecutive batches (gradient accumulation)."""
        size = part_size(len(self), parts)
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield Batch(self.images[rows], None if self.label is None else self.label[rows], self.index[rows])
