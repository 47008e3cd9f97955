"""k-means clusters of the test embeddings against their classes, as in the evaluation of DIET-CP (arXiv:2509.06990)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.solvers.lloyd import kmeans
from dinodiet.io.machine import pick_device
from dinodiet.types import Embeddings


@dataclass(frozen=True, kw_only=True)
class KMeans:
    """As many clusters as there are classes, in the L2-normalised test embeddings: `ari` and `nmi`.

    The tightest of `n_init` clusterings counts. `seed` decides their starts, on every device.

    Raises:
        UserError: n_init is below 1.
    """

    n_init: int = 10
    seed: int = 42
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.n_init < 1:
            raise UserError(f"eval.kmeans.n_init: {self.n_init}; must be at least 1")
        pick_device(self.device)

    def check(self, num_train: int, num_labels: int, multilabel: bool) -> None:
        """Raise NotApplicable for multi-label data."""
        if multilabel:
            raise NotApplicable("k-means compares clusters with classes; this dataset has several labels to an image")

    def __call__(self, train: Embeddings, test: Embeddings, val: Embeddings | None = None) -> dict[str, float]:
        """Return adjusted Rand index and normalised mutual information on `test`; `train` and `val` are not used.

        Raises:
            NotApplicable: the data is multi-label, or the test set has fewer images than classes.
        """
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score  # noqa: PLC0415 - takes 2 s

        self.check(len(train), test.num_labels, test.multilabel)
        if len(test) < test.num_labels:
            raise NotApplicable(f"k-means: {len(test)} test images cannot form {test.num_labels} clusters")
        features = F.normalize(test.features.to(pick_device(self.device)), dim=1)
        generator = torch.Generator().manual_seed(self.seed)
        found, _ = kmeans(features, test.num_labels, self.n_init, generator)
        clusters = found.numpy(force=True)
        classes = test.labels.numpy()
        return {
            "ari": float(adjusted_rand_score(classes, clusters)),
            "nmi": float(normalized_mutual_info_score(classes, clusters)),
        }
