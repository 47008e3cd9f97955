"""Train images beside reference images: how far apart an encoder puts the two sets, and how much it mixes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from dinodiet.config.ranges import AtLeastOne, Range, Seed
from dinodiet.data.images import Subset
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.measures.reference import chance, median_squared_distance, mmd2, overlap
from dinodiet.evals.measures.rows import chosen, measurable, on_sphere
from dinodiet.types import Data, DataSpec, EncoderSplits, Images, Score

ALIKE = "half of all embeddings or more are alike, and give the kernel no width"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Of `rows` train images and `rows` of another `dataset`, each drawn by `seed`; L2-normalised, float64.

    Every encoder embeds the reference images anew.

    * `mmd2`: the squared maximum mean discrepancy under exp(-gamma d^2), biased; gamma is 1 over the median of squared
      distances, of all pairs where they are at most `pairs`, else of so many drawn ones. 0: the sets lie alike.
    * `overlap`: the share of reference images among the `k` images of both sets that are nearest to a train image.
      Where the encoder cannot tell the sets apart it is `chance`, which depends on their numbers.
    """

    needs: ClassVar[Literal["encoder"]] = "encoder"
    fits_labels: ClassVar[bool] = False
    of_train: ClassVar[bool] = True
    dataset: Data | None = field(default=None, repr=False)
    rows: Annotated[int, Range(2, 10**5)] = 5000
    k: AtLeastOne[int] = 50
    pairs: Annotated[int, Range(1, 10**8)] = 200_000
    seed: Seed[int] = 42

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable without reference images or train images, and UserError for too many neighbours."""
        if self.dataset is None:
            raise NotApplicable("compares with reference images; name a set: dataset@eval.reference.dataset=NAME")
        targets, references = min(num_train, self.rows), min(len(self.dataset.train), self.rows)
        if min(targets, references) < 2:
            raise NotApplicable(f"needs 2 images or more of each set; there are {targets} and {references}")
        if self.k > targets + references - 1:
            raise UserError(f"k: {self.k}; an image has {targets + references - 1} others, so at most that")

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return both measures of `train`, whichever split is reported on.

        Raises:
            NotApplicable: an embedding is zero or not finite.
        """
        assert self.dataset is not None
        device, references = splits.runtime.device, self._part(self.dataset.train)
        features = splits.train.features[chosen(len(splits.train), self.rows, self.seed)]
        targets = on_sphere(measurable(features, device))
        others = on_sphere(measurable(splits.embed(references).features, device))
        return self._scores(targets, others)

    def _part(self, images: Images) -> Subset:
        return Subset(images, chosen(len(images), self.rows, self.seed))

    def _scores(self, targets: Tensor, others: Tensor) -> dict[str, Score]:
        median, pairs = median_squared_distance(torch.cat([targets, others]), self.pairs, self.seed)
        settings = {
            "gamma": 1 / median if median else math.nan,
            "pairs": pairs,
            "k": self.k,
            "chance": chance(len(targets), len(others)),
            "rows": len(targets),
            "reference_rows": len(others),
        }
        return {
            "mmd2": Score(mmd2(targets, others, settings["gamma"]), "none", note=None if median else ALIKE),
            "overlap": Score(overlap(targets, others, self.k), "none"),
            **{name: Score(value, kind="setting") for name, value in settings.items()},
        }
