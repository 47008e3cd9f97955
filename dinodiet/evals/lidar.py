"""LiDAR: how many directions tell images apart once their own views are told alike (arXiv:2312.04000)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch

from dinodiet.config.ranges import Positive, Range, Seed
from dinodiet.data.images import Subset
from dinodiet.data.views import SingleView
from dinodiet.errors import NotApplicable
from dinodiet.evals.measures import spectrum
from dinodiet.evals.measures.rows import chosen, measurable
from dinodiet.features.views import embedded_views
from dinodiet.types import DataSpec, EncoderSplits, Score


@dataclass(frozen=True, kw_only=True)
class LiDAR:
    """Of `images` train images, drawn by `seed` without their labels, with `views` of each: `rank`, at most images - 1.

    Thilak et al. 2024. Views are `SingleView`'s of `strength`; the seed draws them too, so they are the same before and
    after a training. `delta` and `epsilon` are those of `spectrum.lidar`. The rank depends on both numbers, which are
    among the settings.
    """

    needs: ClassVar[Literal["encoder"]] = "encoder"
    fits_labels: ClassVar[bool] = False
    of_train: ClassVar[bool] = True
    images: Annotated[int, Range(2, 10**5)] = 100
    views: Annotated[int, Range(2, 1000)] = 10
    strength: Annotated[int, Range(1, 3)] = 2
    delta: Positive[float] = 1e-4
    epsilon: Positive[float] = 1e-8
    seed: Seed[int] = 42

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable for fewer than two train images; labels play no part."""
        if num_train < 2:
            raise NotApplicable(f"needs 2 train images or more; there are {num_train}")

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return the rank of views of `train` images, whichever split is reported on.

        Raises:
            NotApplicable: an embedding is zero or not finite.
        """
        train, runtime = splits.train_images, splits.runtime
        images = Subset(train, chosen(len(train), self.images, self.seed))
        generator, views = torch.Generator().manual_seed(self.seed), SingleView(splits.input, self.strength)
        found = embedded_views(splits.encoder, images, views, self.views, runtime, generator)
        rows = measurable(found.flatten(0, 1), runtime.device).view(found.shape)
        return {
            "rank": Score(spectrum.lidar(rows, self.delta, self.epsilon)),
            "images": Score(len(images), kind="setting"),
            "views": Score(self.views, kind="setting"),
        }
