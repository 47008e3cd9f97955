"""Label-free measures of the embeddings of train images: their spread, their spectrum, their lengths."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from dinodiet.config.ranges import NonNegative, Range, Seed
from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.measures import spectrum, sphere
from dinodiet.evals.measures.rows import chosen, measurable, on_sphere
from dinodiet.types import DataSpec, Score, Splits

Rows = Annotated[int, Range(2, 10**5)]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Of `rows` train images, drawn by `seed` without their labels, or of all if they are fewer; float64 throughout.

    All but alpha-ReQ and the lengths depend on how many images are measured: compare equal numbers, which are among the
    settings. Before and after a training the images are the same.

    * `uniformity` at `t` and `mean_cosine`: of directions.
    * `rankme`: of embeddings as they are, not centred, with `epsilon` (published 1e-7). `rankme_l2`: of directions, not
      centred, without epsilon. `effective_rank`: of centred embeddings, without epsilon.
    * `alpha_req`: the decay of the eigenvalues of the centred covariance over the ranks from `first_rank` to
      `last_rank`, or to the last one there is; `weighted` by 1 / rank or not.
    * `norm_variation`: the deviation of lengths over their mean.

    Raises:
        UserError: there is no range of ranks.
    """

    needs: ClassVar[Literal["embeddings"]] = "embeddings"
    fits_labels: ClassVar[bool] = False
    of_train: ClassVar[bool] = True
    rows: Rows = 5000
    seed: Seed[int] = 42
    t: Annotated[float, Range(0.01, 100)] = 2.0
    epsilon: NonNegative[float] = 1e-7
    first_rank: Annotated[int, Range(1, 2**14)] = 12
    last_rank: Annotated[int, Range(2, 2**14)] = 50
    weighted: bool = True

    def __post_init__(self) -> None:
        if self.last_rank <= self.first_rank:
            raise UserError(f"last_rank: {self.last_rank}; must be above first_rank={self.first_rank}")

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable for fewer than two train images; labels play no part."""
        if num_train < 2:
            raise NotApplicable(f"needs 2 train images or more; there are {num_train}")

    def __call__(self, splits: Splits) -> dict[str, Score]:
        """Return the measures of `train`, whichever split is reported on; what cannot be computed is NaN, with a note.

        Raises:
            NotApplicable: an embedding is zero or not finite.
        """
        features, device = splits.train.features, splits.runtime.device
        rows = measurable(features[chosen(len(features), self.rows, self.seed)], device)
        directions, centered = on_sphere(rows), spectrum.singular_values(rows, centered=True)
        alpha, last = spectrum.decay(centered.square(), self.first_rank, self.last_rank, weighted=self.weighted)
        few = f"there are {last} ranks, and it starts at first_rank={self.first_rank}" if math.isnan(alpha) else None
        alike = None if last else "all embeddings are alike"
        return {
            "uniformity": Score(sphere.uniformity(directions, self.t), "lower"),
            "mean_cosine": Score(sphere.mean_cosine(directions), "lower"),
            "rankme": Score(spectrum.effective_rank(spectrum.singular_values(rows), self.epsilon)),
            "rankme_l2": Score(spectrum.effective_rank(spectrum.singular_values(directions))),
            "effective_rank": Score(spectrum.effective_rank(centered), note=alike),
            "alpha_req": Score(alpha, "none", note=few),
            "norm_variation": Score(sphere.norm_variation(rows), "none"),
            "rows": Score(len(rows), kind="setting"),
            "alpha_first_rank": Score(self.first_rank, kind="setting"),
            "alpha_last_rank": Score(last, kind="setting"),
        }
