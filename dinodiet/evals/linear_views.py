"""Linear probe fitted on augmented views of the train images beside the images themselves."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

from dinodiet.config.ranges import Between, Range, Seed
from dinodiet.data.views import SingleView
from dinodiet.data.views.viewed import ViewedImages
from dinodiet.evals.linear import STRENGTHS, Linear
from dinodiet.evals.normalize import Normalize
from dinodiet.types import DataSpec, EncoderSplits, Score


@dataclass(frozen=True, kw_only=True)
class LinearOnViews:
    """As `Linear`, fitted on `train_views` views of each train image besides: random resized crops and flips.

    The crops (scale 0.08 to 1) and flips are `SingleView`'s of strength 1. Val and test images are not augmented, nor
    are the train images that choose C where there is no val. `seed` draws the views too.

    Raises:
        UserError: the list of C is empty.
    """

    needs: ClassVar[Literal["encoder"]] = "encoder"
    train_views: Annotated[int, Range(0, 1000)] = 1
    C: Annotated[float | list[float], Range(1e-12, 1e12)] = field(default_factory=lambda: list(STRENGTHS))
    normalize: Normalize = "l2"
    seed: Seed[int] = 0
    tolerance: Between[float] = 1e-9

    def __post_init__(self) -> None:
        self._probe()

    def _probe(self) -> Linear:
        return Linear(C=self.C, normalize=self.normalize, seed=self.seed, tolerance=self.tolerance)

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable where there is nothing to tell apart."""
        self._probe().applies(spec, num_train)

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return the scores of `Linear`; `train_accuracy` is on the images themselves.

        Raises:
            NotApplicable: the labels of `train` are all the same, or a split has none.
        """
        view = SingleView(splits.input, strength=1)
        drawn = [
            ViewedImages(splits.train_images, view, seed=self.seed, number=number) for number in range(self.train_views)
        ]
        views = [replace(splits.train, features=splits.embed(images).features) for images in drawn]
        return self._probe().scores(splits, splits.train, views)
