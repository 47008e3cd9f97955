"""What an evaluator is given: the embeddings of splits, and for some the encoder, its tokens, and a place to work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from dinodiet.errors import NotApplicable
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
