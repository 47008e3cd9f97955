"""The contract of evaluators: which data and encoders they score, and how they are called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from dinodiet.types.backbone import Backbone
from dinodiet.types.data import DataSpec
from dinodiet.types.method import Method
from dinodiet.types.score import Report, Score
from dinodiet.types.splits import EncoderSplits, Splits, TrainingSplits


class _Applicable(Protocol):
    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Refuse data that cannot be scored; called before the first step.

        Raises:
            NotApplicable: the scores make no sense for the data (no labels, one class); the evaluator is left out.
            UserError: a setting does not fit the data; the message begins with the argument's name.
        """
        ...


@runtime_checkable
class SaysFitsLabels(Protocol):
    """An evaluator that says whether it uses labels of `train`; one that does not say so is taken to use them.

    On several budgets of labels (`eval.labels_per_class`) one that does not is computed once.
    """

    @property
    def fits_labels(self) -> bool:
        """Return whether labels of `train` change the scores."""
        ...


@runtime_checkable
class SaysOfTrain(Protocol):
    """An evaluator that says whether it measures `train` alone; one that does not say so scores the reported split.

    One that does is computed once, for the test and the validation split.
    """

    @property
    def of_train(self) -> bool:
        """Return whether the scores are the same whichever split is reported on."""
        ...


@runtime_checkable
class EmbeddingEvaluator(_Applicable, Protocol):
    """Scores embeddings. Settings are keyword-only arguments; equal settings give equal scores, which are cached."""

    @property
    def needs(self) -> Literal["embeddings"]:
        """Return what the evaluator is called with: `Splits`."""
        ...

    def __call__(self, splits: Splits) -> dict[str, Score]:
        """Return the scores by name, without the evaluator's own; what is undefined is NaN.

        Raises:
            NotApplicable: the scores make no sense for these splits.
        """
        ...


@runtime_checkable
class EncoderEvaluator(_Applicable, Protocol):
    """Needs the encoder (attention maps) or writes artefacts; otherwise as `EmbeddingEvaluator`."""

    @property
    def needs(self) -> Literal["encoder"]:
        """Return what the evaluator is called with: `EncoderSplits`."""
        ...

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return the scores, as `EmbeddingEvaluator` does."""
        ...


@runtime_checkable
class TrainingEvaluator(_Applicable, Protocol):
    """Trains a copy of the encoder (fine-tuning); it is called before and after the training, and not in between.

    A signal or a kill costs it what it did since its last checkpoint: the same call continues.
    """

    @property
    def needs(self) -> Literal["training"]:
        """Return what the evaluator is called with: `TrainingSplits`."""
        ...

    @property
    def follows(self) -> bool:
        """Return whether the evaluation after the training takes over what was chosen in the one before it."""
        ...

    def __call__(self, splits: TrainingSplits) -> Report:
        """Return the scores, as `EmbeddingEvaluator` does, on test and val.

        Raises:
            NotApplicable: the scores make no sense for these splits.
            Preempted: it was told to stop, and has kept where it is.
        """
        ...


@dataclass(frozen=True)
class CopyTraining:
    """What an evaluator trains: a method around its copy of a backbone, in batches of so many images.

    `state_per_parameter` is how many numbers its optimiser keeps for each trained one.
    """

    method: Method
    batch_size: int
    state_per_parameter: float


@runtime_checkable
class PlansTraining(Protocol):
    """An evaluator that says what it trains, so that its memory is planned; that of one that does not is not."""

    def training_of(self, encoder: Backbone, spec: DataSpec, num_train: int) -> CopyTraining:
        """Return what is trained of an encoder, which may be without values, on so many images."""
        ...


@runtime_checkable
class TokenEvaluator(EncoderEvaluator, Protocol):
    """Scores the tokens of an encoder, which not every one has, and writes no artefacts: its scores are cached too."""

    def suits(self, encoder: Backbone) -> None:
        """Refuse an encoder that cannot be scored; called before the first step.

        Raises:
            NotApplicable: it has no such tokens; the evaluator is left out.
            UserError: a setting does not fit it; the message begins with the argument's name.
        """
        ...


Evaluator = EmbeddingEvaluator | EncoderEvaluator | TrainingEvaluator


def fits_labels(evaluator: Evaluator) -> bool:
    """Return whether labels of `train` change the scores of an evaluator."""
    return evaluator.fits_labels if isinstance(evaluator, SaysFitsLabels) else True


def of_train(evaluator: Evaluator) -> bool:
    """Return whether the scores of an evaluator are of `train` alone."""
    return evaluator.of_train if isinstance(evaluator, SaysOfTrain) else False
