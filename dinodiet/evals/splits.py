"""What evaluators are called with: splits given as values, or of an encoder, embedded when they are first read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from tqdm import tqdm

from dinodiet.data.images import Subset
from dinodiet.features.embed import EmbeddingCache, cache_key, embed
from dinodiet.features.tokens import TokenFiles
from dinodiet.io.bars import interval
from dinodiet.types import Data, DataSpec, Embeddings, Images, InputSpec, Runtime, Splits, TokenTable, Work


@dataclass(frozen=True)
class GivenSplits:
    """Embeddings that are there already, as `dinodiet.types.Splits`."""

    train: Embeddings
    test: Embeddings
    val: Embeddings | None = None
    unseen: Embeddings | None = None
    runtime: Runtime = field(default_factory=Runtime)


@dataclass(frozen=True)
class Embedder:
    """The splits of a dataset for one encoder; each is embedded at most once.

    With a fingerprint of the encoder, embeddings are looked up in the runtime's cache and kept there.
    """

    encoder: nn.Module
    data: Data
    input: InputSpec
    runtime: Runtime
    fingerprint: str | None = None
    _embedded: dict[str, Embeddings] = field(default_factory=dict)
    _tokens: dict[str, TokenTable] = field(default_factory=dict)
    _others: dict[str, Embedder] = field(default_factory=dict)

    def images(self, name: str) -> Images:
        """Return the images of a split: train, val or test."""
        images: Images = getattr(self.data, name)
        return images

    def key(self, name: str) -> str | None:
        """Return the key of a split's embeddings, or None where the encoder has no fingerprint."""
        return self._key(self.images(name))

    def _key(self, images: Images) -> str | None:
        if self.fingerprint is None:
            return None
        return cache_key(self.fingerprint, images, self.input, self.runtime.precision)

    def embeddings(self, name: str) -> Embeddings:
        """Return the embeddings of a split."""
        if name not in self._embedded:
            images = self.images(name)
            with _progress(len(images), name) as bar:
                self._embedded[name] = self._embed(images, bar.update)
        return self._embedded[name]

    def tokens(self, name: str) -> TokenTable:
        """Return the tokens of a split."""
        if name not in self._tokens:
            files = TokenFiles(self.encoder, self.input, self.runtime, self.fingerprint)
            self._tokens[name] = files.table(self.images(name), name)
        return self._tokens[name]

    def by(self, module: nn.Module, name: str) -> Embedder:
        """Return the embedder of another module, which reads this encoder in a way that has a name."""
        fingerprint = None if self.fingerprint is None else f"{self.fingerprint} {name}"
        other = Embedder(module, self.data, self.input, self.runtime, fingerprint)
        return self._others.setdefault(name, other)

    def others(self, images: Images) -> Embeddings:
        """Return the embeddings, without labels, of images that are no split of the dataset."""
        name = images.fingerprint()
        if name not in self._embedded:
            with _progress(len(images), "others") as bar:
                self._embedded[name] = Embeddings(self._embed(images, bar.update).features, None, 0)
        return self._embedded[name]

    def _embed(self, images: Images, progress: Callable[[int], object]) -> Embeddings:
        cache, key = self.runtime.cache, self._key(images)
        return embed(
            self.encoder,
            images,
            self.input,
            self.runtime,
            num_labels=self.data.spec.num_labels,
            multilabel=self.data.spec.multilabel,
            progress=progress,
            cache=None if key is None or cache is None else EmbeddingCache(cache / "embeddings"),
            key=key,
        )


def _progress(images: int, what: str) -> tqdm[Any]:
    """Return a bar that shows after two seconds, and goes when it is done."""
    return tqdm(total=images, desc=f"embedding {what}", unit="img", mininterval=interval(), leave=False, delay=2)


@dataclass(frozen=True)
class LazySplits:
    """The splits of an encoder as `dinodiet.types.Splits`: scores are of the split `reported`, test or val.

    Of `train` only the images at `positions`, int64 (n,), are given; None: all.
    """

    embedder: Embedder
    reported: str
    positions: Tensor | None = field(default=None, kw_only=True)

    @property
    def chosen_on(self) -> str | None:
        """Return the name of the split to choose settings on."""
        return "val" if self.reported == "test" else None

    @property
    def names(self) -> list[str]:
        """Return the names of the splits, in the order of `GivenSplits`."""
        unseen = [] if self.embedder.data.unseen is None else ["unseen"]
        return ["train", self.reported, *([] if self.chosen_on is None else [self.chosen_on]), *unseen]

    @property
    def train(self) -> Embeddings:
        """Return the embeddings to fit on."""
        whole = self.embedder.embeddings("train")
        if self.positions is None:
            return whole
        labels = None if whole.labels_or_none is None else whole.labels_or_none[self.positions]
        return replace(whole, features=whole.features[self.positions], labels_or_none=labels)

    @property
    def test(self) -> Embeddings:
        """Return the embeddings to report on."""
        return self.embedder.embeddings(self.reported)

    @property
    def val(self) -> Embeddings | None:
        """Return the embeddings to choose settings on."""
        return None if self.chosen_on is None else self.embedder.embeddings(self.chosen_on)

    @property
    def unseen(self) -> Embeddings | None:
        """Return the embeddings of labelled training images that the pretext training did not see.

        Where a part of train is given, no others have labels.
        """
        data = self.embedder.data
        if data.unseen is data.train:
            return self.train
        return None if data.unseen is None or self.positions is not None else self.embedder.embeddings("unseen")

    @property
    def runtime(self) -> Runtime:
        """Return where and how to compute."""
        return self.embedder.runtime


@dataclass(frozen=True)
class LazyEncoderSplits(LazySplits):
    """The splits of an encoder as `dinodiet.types.EncoderSplits`; `path` is the folder, made when it is first read."""

    path: Path | None = None

    @property
    def folder(self) -> Path | None:
        """Return the folder of artefacts, which exists."""
        if self.path is not None:
            self.path.mkdir(parents=True, exist_ok=True)
        return self.path

    def embed(self, images: Images) -> Embeddings:
        """Return the embeddings of other images, without labels."""
        return self.embedder.others(images)

    @property
    def encoder(self) -> nn.Module:
        """Return the encoder."""
        return self.embedder.encoder

    @property
    def input(self) -> InputSpec:
        """Return what the encoder expects of its input."""
        return self.embedder.input

    @property
    def spec(self) -> DataSpec:
        """Return the facts about the dataset."""
        return self.embedder.data.spec

    @property
    def train_tokens(self) -> TokenTable:
        """Return the tokens of `train`; of a part of it they are copied into memory."""
        whole = self.embedder.tokens("train")
        if self.positions is None:
            return whole
        labels = None if whole.labels is None else whole.labels[self.positions]
        return replace(whole, values=whole.values[self.positions], labels=labels)

    @property
    def val_tokens(self) -> TokenTable | None:
        """Return the tokens of `val`."""
        return None if self.chosen_on is None else self.embedder.tokens(self.chosen_on)

    @property
    def test_tokens(self) -> TokenTable:
        """Return the tokens of `test`."""
        return self.embedder.tokens(self.reported)

    def embedded_by(self, module: nn.Module, name: str) -> Splits:
        """Return these splits as another module embeds them."""
        return LazySplits(self.embedder.by(module, name), self.reported, positions=self.positions)

    @property
    def train_images(self) -> Images:
        """Return the images of `train`."""
        whole = self.embedder.images("train")
        return whole if self.positions is None else Subset(whole, self.positions)

    @property
    def test_images(self) -> Images:
        """Return the images of `test`."""
        return self.embedder.images(self.reported)

    @property
    def val_images(self) -> Images | None:
        """Return the images of `val`."""
        return None if self.chosen_on is None else self.embedder.images(self.chosen_on)


@dataclass(frozen=True)
class LazyTrainingSplits(LazyEncoderSplits):
    """The splits of an encoder as `dinodiet.types.TrainingSplits`."""

    work: Work = field(default_factory=Work)
