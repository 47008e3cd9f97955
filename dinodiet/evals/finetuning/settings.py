"""The settings of fine-tuning in groups, as YAML nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from dinodiet.config.ranges import AtLeastOne, BelowOne, Fraction, NonNegative, Positive, Range
from dinodiet.data.views import Blur, Colour, SingleView
from dinodiet.data.views.rand_augment import RandAugmented
from dinodiet.data.views.settings import Scale
from dinodiet.methods.parts.classifier import Norm
from dinodiet.types import InputSpec, Views

LARGE_SET, SMALL_BATCH, LARGE_BATCH = 5000, 32, 64


@dataclass(frozen=True, kw_only=True)
class Length:
    """How long a training is: `steps`, but at least `least_epochs` and at most `most_epochs`.

    `last_batch: filled` completes an epoch's last batch with its first images, so that every image is seen in every
    epoch; `dropped` leaves an incomplete one out.
    """

    steps: AtLeastOne[int] = 1500
    least_epochs: NonNegative[float] = 30
    most_epochs: Positive[float] = 100
    last_batch: Literal["filled", "dropped"] = "filled"

    def total(self, steps_per_epoch: int) -> int:
        """Return the number of steps, one at least."""
        least, most = (epochs * steps_per_epoch for epochs in (self.least_epochs, self.most_epochs))
        return max(round(min(max(self.steps, least), most)), 1)


@dataclass(frozen=True, kw_only=True)
class Optimiser:
    """AdamW with betas (0.9, 0.999), and the schedule of its rate: linear warm-up, then a cosine to `final_lr`.

    `layer_decay` is the factor of the learning rate from one block to the one before it (`layer_decay.py`). With
    `exempt`, one-dimensional parameters and tokens do not decay.
    """

    layer_decay: Annotated[float, Range(0, 1, open_low=True)] = 0.75
    weight_decay: NonNegative[float] = 0.05
    exempt: bool = True
    warmup_fraction: Fraction[float] = 0.1
    final_lr: NonNegative[float] = 1e-6
    clip_grad: Positive[float | None] = 1.0


@dataclass(frozen=True, kw_only=True)
class Head:
    """The classifier: a norm and a linear layer.

    `norm` is a layer norm, a batch norm without affine parameters, or none. `init_std` is the deviation of the first
    weights (He et al. 2022, arXiv:2111.06377: 2e-5); None: torch's. `start: probe` begins with the linear probe on the
    frozen embeddings instead (LP-FT; Kumar et al. 2022, arXiv:2202.10054).
    """

    norm: Norm = "layer"
    init_std: Positive[float | None] = 2e-5
    start: Literal["random", "probe"] = "random"


@dataclass(frozen=True, kw_only=True)
class Regularisation:
    """What keeps a classifier from learning images by heart.

    `drop_path` is for models that have stochastic depth; others are trained without it, and the record says so. MixUp
    and CutMix are on where an alpha is above 0 and there are `mix_from` images or more.
    """

    label_smoothing: BelowOne[float] = 0.1
    drop_path: BelowOne[float] = 0.1
    mixup_alpha: Annotated[float, Range(0, 1000)] = 0.0
    cutmix_alpha: Annotated[float, Range(0, 1000)] = 0.0
    mix_from: NonNegative[int] = 1000

    def alphas(self, num_images: int) -> dict[str, float]:
        """Return the parameters of `Mix` for so many images."""
        on = num_images >= self.mix_from
        return {"mixup_alpha": self.mixup_alpha if on else 0.0, "cutmix_alpha": self.cutmix_alpha if on else 0.0}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The view that is trained on: a random resized crop, a flip, and what `colour` and `blur` add to it.

    `rand_augment` (a policy in timm's words, as rand-m9-mstd0.5-inc1) and `erasing` (a probability) come last.
    """

    crop_scale: Scale = field(default_factory=lambda: [0.3, 1.0])
    flip: Fraction[float] = 0.5
    colour: Colour | None = None
    blur: Blur | None = None
    rand_augment: str | None = None
    erasing: Fraction[float] = 0.0

    def views(self, input: InputSpec) -> Views:
        """Return the views for a backbone's input."""
        views = SingleView(input, 1, None, self.crop_scale, None, self.flip, None, self.colour, self.blur)
        if self.rand_augment is None and self.erasing == 0:
            return views
        return RandAugmented(views, input, self.rand_augment, self.erasing)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that a training is made of besides its learning rate and seed; `steps` None: as `length` says."""

    steps: int | None
    batch_size: int | None
    validations: int
    length: Length
    optimiser: Optimiser
    head: Head
    regularisation: Regularisation
    augmentation: Augmentation

    def batch(self, num_images: int) -> int:
        """Return the batch size: what is asked for, else 32, and 64 from 5,000 images on; never more than there are."""
        usual = LARGE_BATCH if num_images >= LARGE_SET else SMALL_BATCH
        return min(self.batch_size or usual, num_images)

    def validated(self, total_steps: int, steps_per_epoch: int) -> set[int]:
        """Return the steps after which val is scored: ends of epochs, at most `validations` of them, and the last."""
        epochs = math.ceil(total_steps / steps_per_epoch)
        every = math.ceil(epochs / self.validations)
        ends = {epoch * steps_per_epoch for epoch in range(every, epochs, every)}
        return {step for step in ends if step < total_steps} | {total_steps}
