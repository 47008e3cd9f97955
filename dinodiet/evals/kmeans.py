"""k-means clusters of the test embeddings against their classes, as in the evaluation of DIET-CP (arXiv:2509.06990)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dinodiet.config.ranges import Range, Seed
from dinodiet.errors import NotApplicable
from dinodiet.evals.metrics import bounded
from dinodiet.types import DataSpec, Score, Splits


@dataclass(frozen=True, kw_only=True)
class KMeans:
    """As many clusters as there are classes, in the L2-normalised test embeddings: `ari` and `nmi`.

    scikit-learn's k-means; the tightest of `n_init` clusterings counts. `seed` decides their starts.
    """

    needs: ClassVar[Literal["embeddings"]] = "embeddings"
    fits_labels: ClassVar[bool] = False
    n_init: Annotated[int, Range(1, 1000)] = 10
    seed: Seed[int] = 42

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Raise NotApplicable for data without labels, and for multi-label data."""
        if spec.multilabel:
            raise NotApplicable("compares clusters with classes; this dataset has several labels to an image")
        if not spec.labelled:
            raise NotApplicable("needs labels; this dataset has none")

    def __call__(self, splits: Splits) -> dict[str, Score]:
        """Return adjusted Rand index and normalised mutual information on `test`; `train` and `val` are not used.

        They have no interval: an image that is drawn twice makes a pair that agrees, so a bootstrap is too high.

        Raises:
            NotApplicable: the test set has fewer images than classes, or no labels.
        """
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # noqa: PLC0415 - takes a second

        test = splits.test
        classes = test.labels.numpy()
        if len(test) < test.num_labels:
            raise NotApplicable(f"{len(test)} images cannot form {test.num_labels} clusters")
        clusters = self._clusters(F.normalize(test.features, dim=1), test.num_labels)
        return {
            "ari": bounded(float(adjusted_rand_score(classes, clusters)), low=-1.0),
            "nmi": bounded(float(normalized_mutual_info_score(classes, clusters))),
        }

    def _clusters(self, features: Tensor, num_clusters: int) -> NDArray[Any]:
        """Return the cluster (N,) of each image.

        In float64, since threads add up their sums in any order: float32 would let that decide about single images.
        """
        from sklearn import cluster, exceptions  # noqa: PLC0415

        solver = cluster.KMeans(num_clusters, n_init=self.n_init, random_state=self.seed)
        with warnings.catch_warnings():  # collapsed embeddings have fewer different ones than clusters, and score 0
            warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
            clusters: NDArray[Any] = solver.fit_predict(features.double().numpy())
        return clusters
