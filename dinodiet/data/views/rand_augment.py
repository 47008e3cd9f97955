"""RandAugment and random erasing by timm on top of other views, as recipes of fine-tuning have them.

timm works image by image on the CPU, and draws from the global generators of Python, NumPy and torch. Here these are
set from the view's own generator, and afterwards as they were: a training that was interrupted sees the same images.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from dinodiet.config.ranges import Fraction
from dinodiet.errors import UserError
from dinodiet.processes.rows import share_of
from dinodiet.types import InputSpec, Views

STRONGEST = 9.99  # of timm's 10: at 10 an image is posterised to no bits at all, which Pillow refuses


class RandAugmented:
    """Views (B, 3, s, s) in 0..1 after RandAugment (Cubuk et al. 2020) and random erasing (Zhong et al. 2020).

    Args:
        views: what is augmented further.
        input: the backbone's; its mean fills what a shift uncovers, and noise is erased with in its units.
        rand_augment: a policy in timm's words, as `rand-m9-mstd0.5-inc1`; None: without.
        erasing: probability that a part of a view becomes noise.

    Raises:
        UserError: timm does not know the policy.
    """

    def __init__(
        self, views: Views, input: InputSpec, rand_augment: str | None = None, erasing: Fraction[float] = 0.0
    ) -> None:
        self.views, self.input, self.policy, self.erasing = views, input, rand_augment, erasing
        self.num_global, self.sides, self.draft_side = views.num_global, views.sides, views.draft_side
        self.fixed = views.fixed and rand_augment is None and erasing == 0
        self._augment = None if rand_augment is None else _rand_augment(rand_augment, input)
        self._erase: Any = RandomErasing(erasing, mode="pixel", device="cpu")  # type: ignore[no-untyped-call]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.views!r}, {self.policy!r}, erasing={self.erasing})"

    def __call__(self, images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Return the views."""
        views = self.views(images, generator)
        if share_of(generator).size > 1:
            raise UserError("rand_augment: its numbers are drawn image by image, in one process alone; set processes=1")
        with _drawing_from(generator):
            return [torch.stack([self._augmented(one) for one in view.cpu()]).to(view.device) for view in views]

    def _augmented(self, view: Tensor) -> Tensor:
        if self._augment is not None:
            pixels = view.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            view = torch.from_numpy(np.array(self._augment(Image.fromarray(pixels)))).permute(2, 0, 1).float().div(255)
        if self.erasing == 0:
            return view
        mean, std = (torch.tensor(values)[:, None, None] for values in (self.input.mean, self.input.std))
        erased: Tensor = self._erase(torch.zeros_like(view))
        return torch.where(erased == 0, view, erased * std + mean)  # noise has no exact zeros


def _rand_augment(policy: str, input: InputSpec) -> Any:
    """Return timm's transform; shifts reach 45 % of a side, as in its own training."""
    fill = tuple(round(255 * value) for value in input.mean)
    hparams = {
        "translate_const": int(0.45 * input.size),
        "img_mean": fill,
        "interpolation": Image.Resampling.BICUBIC,
        "magnitude_max": STRONGEST,
    }
    try:
        if "mmax" in policy:
            raise ValueError(policy)
        return rand_augment_transform(policy, hparams)
    except (AssertionError, ValueError, KeyError) as error:
        example = "give one of timm's without mmax, as rand-m9-mstd0.5-inc1"
        raise UserError(f"rand_augment: {policy!r} is no policy of RandAugment; {example}") from error


@contextlib.contextmanager
def _drawing_from(generator: torch.Generator) -> Iterator[None]:
    """Set the global generators of Python, NumPy and torch from this one, and leave them as they were."""
    seed = int(torch.randint(2**31, (), generator=generator))
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
