"""The contract of evaluators: what they are given, and the scores that they return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from dinodiet.errors import NotApplicable
from dinodiet.types.backbone import Backbone
from dinodiet.types.data import DataSpec, Images, InputSpec
from dinodiet.types.runtime import Runtime


@dataclass(frozen=True)
class Embeddings:
    """Backbone outputs of a split in sample order: float32 (N, D) on the CPU, with the labels of `Images`, if any."""

    features: Tensor
    labels_or_none: Tensor | None
    num_labels: int
    multilabel: bool = False

    def __len__(self) -> int:
        return len(self.features)

    @property
    def labels(self) -> Tensor:
        """Return the labels.

        Raises:
            NotApplicable: the split has none.
        """
        if self.labels_or_none is None:
            raise NotApplicable("needs labels, which a split of this dataset lacks")
        return self.labels_or_none


Kind = Literal["metric", "setting", "diagnostic"]


@dataclass(frozen=True)
class TokenTable:
    """The tokens of a split in sample order: bf16 (N, T, D) on the CPU, mapped from a file; `labels` of `Images`.

    Where there is a `class_token` it is the first of the T; all others are patches.
    """

    values: Tensor
    class_token: bool
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Score:
    """One number that an evaluator returns; NaN where it is undefined.

    `kind` says whether it is a metric, a setting that metrics depend on, or a diagnostic: what helps to judge the
    metrics and is none itself, such as the accuracy on the images that a probe was fitted on. `better` says which
    direction is an improvement, `none`: neither is by itself; of a setting it means nothing. `interval` holds the value
    in 95 of 100 samples of test images; None: not known. `note` says why a value is undefined, or what was done to it.
    """

    value: float
    better: Literal["higher", "lower", "none"] = "higher"
    kind: Kind = "metric"
    interval: tuple[float, float] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Report:
    """What an evaluator says that trains: scores on test and, of the same training, on val; and how it was done.

    `protocol` holds plain values of JSON: what scores that are to be compared must have in common (its keys in
    `dinodiet.store.protocol`), and what was seen on the way.
    """

    test: dict[str, Score]
    val: dict[str, Score] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """Where and how often an evaluator that trains keeps what it continues from, and what was chosen before.

    Attributes:
        folder: for its checkpoints; None: it cannot be continued.
        seconds: between two checkpoints.
        key: of all that its scores depend on; what was kept under another one is of no use.
        before: the protocol of the same evaluation before the training; None: this is it, or there was none.
    """

    folder: Path | None = None
    seconds: float = 300.0
    key: str = ""
    before: Mapping[str, Any] | None = None


class Splits(Protocol):
    """What an evaluator is given: fit on `train`, choose on `val` (None: on a part of train), report on `test`.

    While settings are compared, `test` is the validation split and `val` is None. A split is embedded when it is first
    read.
    """

    @property
    def train(self) -> Embeddings:
        """Return the embeddings to fit on."""
        ...

    @property
    def val(self) -> Embeddings | None:
        """Return the embeddings to choose settings on."""
        ...

    @property
    def test(self) -> Embeddings:
        """Return the embeddings to report on."""
        ...

    @property
    def unseen(self) -> Embeddings | None:
        """Return the embeddings of labelled training images that the pretext training did not see; None: none are."""
        ...

    @property
    def runtime(self) -> Runtime:
        """Return where and how to compute."""
        ...


class EncoderSplits(Splits, Protocol):
    """What an evaluator that `needs` the encoder is given besides: encoder, images, and a folder for artefacts.

    The encoder lies on the runtime's device and must be left as it was found; who trains, trains a copy. Files that are
    written into `folder` (figures, tables) are recorded with the scores.
    """

    @property
    def encoder(self) -> nn.Module:
        """Return the encoder, a module (B, 3, size, size) -> (B, D)."""
        ...

    @property
    def input(self) -> InputSpec:
        """Return what the encoder expects of its input."""
        ...

    @property
    def spec(self) -> DataSpec:
        """Return the facts about the dataset."""
        ...

    @property
    def train_images(self) -> Images:
        """Return the images of `train`."""
        ...

    @property
    def val_images(self) -> Images | None:
        """Return the images of `val`."""
        ...

    @property
    def test_images(self) -> Images:
        """Return the images of `test`."""
        ...

    @property
    def train_tokens(self) -> TokenTable:
        """Return the tokens of `train`, of an encoder that is `Tokened`."""
        ...

    @property
    def val_tokens(self) -> TokenTable | None:
        """Return the tokens of `val`."""
        ...

    @property
    def test_tokens(self) -> TokenTable:
        """Return the tokens of `test`."""
        ...

    def embedded_by(self, module: nn.Module, name: str) -> Splits:
        """Return these splits as another module embeds them, one that reads the encoder; each is embedded once.

        `name` tells apart what the modules make of one encoder: embeddings are kept under it.
        """
        ...

    @property
    def folder(self) -> Path | None:
        """Return the folder of artefacts, which exists; None where none are kept."""
        ...

    def embed(self, images: Images) -> Embeddings:
        """Return the embeddings of other images, without labels; the same images are embedded once."""
        ...


class TrainingSplits(EncoderSplits, Protocol):
    """What an evaluator that trains a copy of the encoder is given besides."""

    @property
    def work(self) -> Work:
        """Return what it needs to continue where it was stopped."""
        ...


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
