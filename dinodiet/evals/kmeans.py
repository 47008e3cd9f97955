"""k-means clusters of the test embeddings against their classes, as in the evaluation of DIET-CP (arXiv:2509.06990)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F

from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.solvers.lloyd import kmeans
from dinodiet.types import DataSpec, Score, Splits


@dataclass(frozen=True, kw_only=True)
class KMeans:
    """As many clusters as there are classes, in the L2-normalised test embeddings: `ari` and `nmi`.

    The tightest of `n_init` clusterings counts. `seed` decides their starts, on every device.

    Raises:
        UserError: n_init is below 1.
    """

    needs: ClassVar[Literal["embeddings"]] = "embeddings"
    n_init: int = 10
    seed: int = 42

    def __post_init__(self) -> None:
        if self.n_init < 1:
            raise UserError(f"n_init: {self.n_init}; must be at least 1")

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable for data without labels, and for multi-label data."""
        if spec.multilabel:
            raise NotApplicable("compares clusters with classes; this dataset has several labels to an image")
        if not spec.labelled:
            raise NotApplicable("needs labels; this dataset has none")

    def __call__(self, splits: Splits) -> dict[str, Score]:
        """Return adjusted Rand index and normalised mutual information on `test`; `train` and `val` are not used.

        Raises:
            NotApplicable: the test set has fewer images than classes, or no labels.
        """
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # noqa: PLC0415 - takes 2 s

        test = splits.test
        classes = test.labels.numpy()
        if len(test) < test.num_labels:
            raise NotApplicable(f"{len(test)} images cannot form {test.num_labels} clusters")
        features = F.normalize(test.features.to(splits.runtime.device), dim=1)
        generator = torch.Generator().manual_seed(self.seed)
        found, _ = kmeans(features, test.num_labels, self.n_init, generator)
        clusters = found.numpy(force=True)
        return {
            "ari": Score(float(adjusted_rand_score(classes, clusters))),
            "nmi": Score(float(normalized_mutual_info_score(classes, clusters))),
        }
