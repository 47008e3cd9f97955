"""Linear probe and unweighted Euclidean k-NN side by side, each on features as they are and standardised by train."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from dinodiet.config.ranges import AtLeastOne, Range
from dinodiet.errors import UserError
from dinodiet.evals.knn import KNN
from dinodiet.evals.linear import STRENGTHS, Linear
from dinodiet.types import DataSpec, EmbeddingEvaluator, Score, Splits

HEADLINES = ("accuracy", "auroc")  # of one label an image, and of several


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Accuracies (several labels an image: macro AUROC) named `knn`, `knn_norm`, `linear` and `linear_norm`.

    `_norm` stands for features standardised by train (`normalize.moments`). The k-NN has Euclidean distance and one
    vote a neighbour; labels with equal votes: the smallest. The linear probe is `Linear`, to convergence with C chosen
    on val; `linear` False leaves it out. Settings stand beside: `k`, and the chosen `C` and `C_norm`.

    Raises:
        UserError: the list of C is empty.
    """

    needs: ClassVar[Literal["embeddings"]] = "embeddings"
    fits_labels: ClassVar[bool] = True
    k: AtLeastOne[int] = 20
    linear: bool = True
    C: Annotated[float | list[float], Range(1e-12, 1e12)] = field(default_factory=lambda: list(STRENGTHS))

    def __post_init__(self) -> None:
        if self.C == []:
            raise UserError("C: []; give a positive number, or a list of them")

    @property
    def evaluators(self) -> dict[str, EmbeddingEvaluator]:
        """Return the evaluators by the name of their score, in the order of the scores."""
        found: dict[str, EmbeddingEvaluator] = {
            "knn": KNN(k=self.k, metric="euclidean", votes="uniform"),
            "knn_norm": KNN(k=self.k, metric="euclidean", votes="uniform", normalize="standardize"),
        }
        if self.linear:
            found["linear"] = Linear(C=self.C, normalize="none")
            found["linear_norm"] = Linear(C=self.C, normalize="standardize")
        return found

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Refuse what one of the evaluators refuses."""
        for evaluator in self.evaluators.values():
            evaluator.applies(spec, num_train)

    def __call__(self, splits: Splits) -> dict[str, Score]:
        """Return the scores.

        Raises:
            NotApplicable: as `KNN` and `Linear`.
        """
        scores: dict[str, Score] = {}
        settings: dict[str, Score] = {}
        for name, evaluator in self.evaluators.items():
            found = evaluator(splits)
            scores[name] = next(found[metric] for metric in HEADLINES if metric in found)
            suffix = "_norm" if name.endswith("_norm") else ""
            settings |= {f"{key}{suffix}": found[key] for key in ("C",) if key in found}
        return scores | {"k": Score(float(self.k), kind="setting")} | settings
