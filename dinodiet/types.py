"""What the parts hand each other: batches, specifications, embeddings, scores, clock, world, and the protocols."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dinodiet.errors import NotApplicable

Interpolation = Literal["bilinear", "bicubic"]
Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class World:
    """The only source of place: which process of a run this is (`rank`), of how many (`size`), and its device."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


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
class InputSpec:
    """What a backbone's weights expect of their input.

    `size` is the side of the square input in pixels, `mean` and `std` are per RGB channel on a 0-1 scale,
    `crop_fraction` is the part of the shorter side that the evaluation's centre crop keeps, and every crop's
    side must be a multiple of `divisor` (the patch size of a transformer).
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Interpolation = "bicubic"
    crop_fraction: float = 1.0
    divisor: int = 1


@dataclass(frozen=True)
class DataSpec:
    """The facts about a dataset that backbones and methods are built from.

    `num_images` counts the images that self-supervised training sees (the pretext split), `num_labels` the classes,
    or the binary labels of a multi-label set; 0: the images have no labels at all. `image_size` is the side at which
    the backbone should see the images; None leaves it to the weights. `native_size` is the side of the stored images,
    None where they differ.
    """

    name: str
    num_images: int
    num_labels: int
    multilabel: bool = False
    pretext_labelled: bool = True
    image_size: int | None = None
    native_size: int | None = None

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

    Of images without labels nothing is held out: `train` is `pretext`, and `val` and `test` are empty.
    """

    spec: DataSpec
    pretext: Images
    train: Images
    val: Images
    test: Images


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
        size = -(-len(self) // parts)
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            yield Batch(self.images[rows], None if self.label is None else self.label[rows], self.index[rows])


@dataclass(frozen=True)
class Embeddings:
    """Backbone outputs of a split in sample order: float32 (N, D) on the CPU, with the labels of `Images`, if any."""

    features: Tensor
    labels_or_none: Tensor | None
    num_labels: int
    multilabel: bool = False

    def __len__(self) -> int:
        return len(self.features)

    @property
    def labels(self) -> Tensor:
        """Return the labels.

        Raises:
            NotApplicable: the split has none.
        """
        if self.labels_or_none is None:
            raise NotApplicable("needs labels, which a split of this dataset lacks")
        return self.labels_or_none


@dataclass(frozen=True)
class Clock:
    """The only source of time, and with the seed the only source of randomness in training.

    `step` counts optimiser steps from 0; `part` is the micro-batch within a step when gradients are accumulated.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    seed: int = 0
    part: int = 0

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
        """Return a CPU generator that depends on (seed, step, part, stream) and on nothing else."""
        text = f"{self.seed}/{self.step}/{self.part}/{stream}"
        seed = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
        return torch.Generator().manual_seed(seed)


@dataclass(frozen=True)
class Description:
    """What is known about a backbone besides its modules.

    `signature` names what the forward pass depends on besides classes, weights and buffers (pooling, chosen layers):
    embeddings are kept under it. `licence` is that of the released weights. `published` holds scores to expect of the
    frozen backbone, by dataset and metric.
    """

    signature: str = ""
    family: str | None = None
    size: str | None = None
    licence: str | None = None
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@runtime_checkable
class Backbone(Protocol):
    """A module (B, 3, size, size) -> (B, embed_dim), built as `factory(spec=DataSpec, <settings from YAML>)`.

    Its images are in 0..1: it normalises them itself, by the mean and deviation of its `input`.
    `freezable_blocks()` lists, from input to output, the parts that `trainable: last_n_blocks` counts; `tail()` lists
    the modules after the last of them (final norm, last convolution), which are trained whenever a block is.
    """

    embed_dim: int
    input: InputSpec
    description: Description

    def __call__(self, images: Tensor) -> Tensor:
        """Return the embeddings (B, embed_dim) of images (B, 3, size, size) in 0..1."""
        ...

    def freezable_blocks(self) -> list[list[nn.Module]]:
        """Return the blocks from input to output, each a list of modules."""
        ...

    def tail(self) -> list[nn.Module]:
        """Return the modules after the last block."""
        ...


@runtime_checkable
class Splittable(Protocol):
    """A backbone of which more than one tensor reaches its later blocks, and that can be split before any of them.

    Backbones whose blocks are called one after another, each with what the one before it returned, need not be one.
    """

    def trunk(self, images: Tensor, first: int) -> tuple[Tensor, ...]:
        """Return all that the blocks from number `first` on depend on: tensors with one row an image."""
        ...

    def rest(self, hidden: tuple[Tensor, ...], first: int, side: int) -> Tensor:
        """Return the embeddings from these tensors, of images of `side` pixels."""
        ...


class Views(Protocol):
    """Augmented views of a batch, on the batch's device.

    Returns float32 (B, 3, s, s) tensors in 0..1, global views first; a function of the images and the generator.
    `draft_side` is the shorter side at which large JPEG files may be decoded for them; None: in full. `repr` tells all
    settings: what is computed from views is kept on disk under it.
    """

    num_global: int
    draft_side: int | None

    def __call__(self, images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Return the views of `Batch.images`."""
        ...


@dataclass(frozen=True)
class Score:
    """One number that an evaluator returns: `kind` says whether it is a metric, or a setting that metrics depend on.

    `better` says which direction is an improvement; of a setting it means nothing.
    """

    value: float
    better: Literal["higher", "lower"] = "higher"
    kind: Literal["metric", "setting"] = "metric"


class Splits(Protocol):
    """What an evaluator is given: fit on `train`, choose on `val` (None: on a part of train), report on `test`.

    While settings are compared, `test` is the validation split and `val` is None. A split is embedded when it is first
    read.
    """

    @property
    def train(self) -> Embeddings:
        """Return the embeddings to fit on."""
        ...

    @property
    def val(self) -> Embeddings | None:
        """Return the embeddings to choose settings on."""
        ...

    @property
    def test(self) -> Embeddings:
        """Return the embeddings to report on."""
        ...

    @property
    def runtime(self) -> Runtime:
        """Return where and how to compute."""
        ...


class EncoderSplits(Splits, Protocol):
    """What an evaluator that `needs` the encoder is given besides: encoder, images, and a folder for artefacts.

    The encoder lies on the runtime's device and must be left as it was found; who trains, trains a copy. Files that are
    written into `folder` (figures, tables) are recorded with the scores.
    """

    @property
    def encoder(self) -> nn.Module:
        """Return the encoder, a module (B, 3, size, size) -> (B, D)."""
        ...

    @property
    def input(self) -> InputSpec:
        """Return what the encoder expects of its input."""
        ...

    @property
    def spec(self) -> DataSpec:
        """Return the facts about the dataset."""
        ...

    @property
    def train_images(self) -> Images:
        """Return the images of `train`."""
        ...

    @property
    def val_images(self) -> Images | None:
        """Return the images of `val`."""
        ...

    @property
    def test_images(self) -> Images:
        """Return the images of `test`."""
        ...

    @property
    def folder(self) -> Path | None:
        """Return the folder of artefacts, which exists; None where none are kept."""
        ...


class _Applicable(Protocol):
    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Refuse data that cannot be scored; called before the first step.

        Raises:
            NotApplicable: the scores make no sense for the data (no labels, one class); the evaluator is left out.
            UserError: a setting does not fit the data; the message begins with the argument's name.
        """
        ...


@runtime_checkable
class EmbeddingEvaluator(_Applicable, Protocol):
    """Scores embeddings. Settings are keyword-only arguments; equal settings give equal scores, which are cached."""

    @property
    def needs(self) -> Literal["embeddings"]:
        """Return what the evaluator is called with: `Splits`."""
        ...

    def __call__(self, splits: Splits) -> dict[str, Score]:
        """Return the scores by name, without the evaluator's own; what is undefined is NaN.

        Raises:
            NotApplicable: the scores make no sense for these splits.
        """
        ...


@runtime_checkable
class EncoderEvaluator(_Applicable, Protocol):
    """Needs the encoder (attention, fine-tuning) or writes artefacts; otherwise as `EmbeddingEvaluator`."""

    @property
    def needs(self) -> Literal["encoder"]:
        """Return what the evaluator is called with: `EncoderSplits`."""
        ...

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return the scores, as `EmbeddingEvaluator` does."""
        ...


Evaluator = EmbeddingEvaluator | EncoderEvaluator


class Tracker(Protocol):
    """Hears of a run: its configuration, metrics by step, what evaluators drew, and its final scores."""

    def start(self, run_id: str, config: dict[str, Any], folder: Path) -> None:
        """Begin, or continue, the record of a run; `folder` is the run directory, `config["name"]` its study."""
        ...

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Note metrics at an optimiser step."""
        ...

    def figure(self, name: str, path: Path) -> None:
        """Show an image file that lies in the run directory."""
        ...

    def table(self, name: str, path: Path) -> None:
        """Show a CSV file that lies in the run directory; its first line names the columns."""
        ...

    def finish(self, summary: dict[str, float], exit_code: int = 0) -> None:
        """Note the final scores and close the record."""
        ...


@dataclass
class ParamGroup:
    """Parameters that share an optimiser setting: lr and weight decay are the schedules' values times these factors."""

    name: str
    params: list[nn.Parameter] = field(default_factory=list)
    lr_scale: float = 1.0
    weight_decay_scale: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """Return the group in the form that torch's optimisers take."""
        return {
            "params": self.params,
            "name": self.name,
            "lr_scale": self.lr_scale,
            "weight_decay_scale": self.weight_decay_scale,
        }


class Method(Protocol):
    """What the training loop, the run and the planning know of a self-supervised method; also a `torch.nn.Module`.

    Built as `factory(backbone=..., spec=DataSpec, <settings from YAML>)`. The loop calls, once per step:
    `method(batch, clock)` (once per part where gradients are accumulated), backward, clipping, `before_step`, the
    optimiser's step, `after_step`. All state belongs into the state dict: it is what resumes a run.
    `dinodiet.methods.base.MethodBase` has defaults for everything but `forward`.
    """

    split: Literal["pretext", "train"]  # of the dataset: what the method trains on

    @property
    def encoder(self) -> nn.Module:
        """Return the module whose embeddings are evaluated."""
        ...

    @property
    def reads_images(self) -> bool:
        """Return whether training reads the images of a batch, and not only their labels and indices."""
        ...

    @property
    def draft_side(self) -> int | None:
        """Return the shorter side at which large JPEG files may be decoded for training; None: in full."""
        ...

    def towers(self) -> list[nn.Module]:
        """Return the backbones, the trained one first: what freezing, compiling, sharding and planning act on."""
        ...

    def prepare(self, images: Images, clock: Clock, runtime: Runtime) -> None:
        """Compute once, before the first step, what training needs of the images, in the order of `Batch.index`."""
        ...

    def __call__(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        """Return the scalar `loss` of a batch, and detached scalars worth logging, all on the batch's device."""
        ...

    def before_step(self, clock: Clock) -> None:
        """Run after backward and clipping, before the optimiser's step."""
        ...

    def after_step(self, clock: Clock) -> None:
        """Run after the optimiser's step; `clock` is still at that step."""
        ...

    def logits(self, images: Tensor) -> Tensor | None:
        """Return a trained classifier's logits (B, labels) of images (B, 3, s, s); None: the method trains none."""
        ...

    def param_groups(self) -> list[ParamGroup]:
        """Return what is optimised."""
        ...

    def diagnostics(self) -> dict[str, float]:
        """Return what is too costly for every step, about the last batch."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return the choices the method made itself, for the run's summary."""
        ...

    def train(self, mode: bool = True) -> Any:
        """Set the training mode of everything but frozen parts."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return all state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any:
        """Take all state."""
        ...
