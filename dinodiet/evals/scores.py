"""Scores of an encoder: every split embedded once, all evaluators on the same embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from dinodiet.errors import NotApplicable
from dinodiet.evals.score_cache import ScoreCache, score_key
from dinodiet.features.embed import EmbeddingCache, cache_key, embed, fingerprint
from dinodiet.types import Data, Embeddings, Evaluator, Images, InputSpec


@dataclass
class Scores:
    """Metrics named `<eval>/<metric>` on test and, for choosing settings, on val; `skipped` says why one is absent."""

    test: dict[str, float] = field(default_factory=dict)
    val: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as plain dictionaries."""
        return asdict(self)


class Scorer:
    """Scores encoders on a dataset.

    `validation` also scores on val when test is scored, so that settings can be compared without looking at test.
    `cache` is the folder of embeddings and scores of frozen encoders that runs share.

    Raises:
        UserError: an evaluator's settings do not fit the data (on construction, before any work).
    """

    def __init__(
        self,
        evaluators: Mapping[str, Evaluator],
        data: Data,
        input: InputSpec,
        *,
        device: torch.device,
        batch_size: int,
        precision: str,
        num_workers: int,
        validation: bool,
        cache: Path | None,
    ) -> None:
        self.evaluators: dict[str, Evaluator] = {}
        self.skipped: dict[str, str] = {}
        self.data, self.input, self.device = data, input, device
        self.batch_size, self.precision, self.num_workers = batch_size, precision, num_workers
        self.validation, self.cache = validation, cache
        for name, evaluator in evaluators.items():
            self._add(name, evaluator)

    def _add(self, name: str, evaluator: Evaluator) -> None:
        check = getattr(evaluator, "check", None)
        try:
            if not self.data.spec.labelled:
                raise NotApplicable(f"it needs labels, and the images of {self.data.spec.name} have none")
            if check is not None:
                check(len(self.data.train), self.data.spec.num_labels, self.data.spec.multilabel)
        except NotApplicable as reason:
            self.skipped[name] = str(reason)
        else:
            self.evaluators[name] = evaluator

    def __call__(self, encoder: nn.Module, *, cached: bool = False) -> Scores:
        """Return the scores; `cached` keeps embeddings and scores on disk for other runs of the same frozen encoder."""
        splits = _Splits(self, encoder, fingerprint(encoder) if cached and self.cache is not None else None)
        scores = Scores(skipped=dict(self.skipped))
        scores.test = self._evaluate(splits, ("train", "test", "val"), scores.skipped)
        if self.validation:
            scores.val = self._evaluate(splits, ("train", "val"), scores.skipped)
        return scores

    def validate(self, encoder: nn.Module) -> dict[str, float]:
        """Return the scores on val alone."""
        return self._evaluate(_Splits(self, encoder, None), ("train", "val"), {})

    def _evaluate(self, splits: _Splits, names: Sequence[str], skipped: dict[str, str]) -> dict[str, float]:
        """Return the metrics of all evaluators, called with the splits of these names."""
        metrics: dict[str, float] = {}
        for name, evaluator in self.evaluators.items():
            try:
                found = splits.scores(evaluator, names)
            except NotApplicable as reason:
                skipped[name] = str(reason)
            else:
                metrics |= {f"{name}/{metric}": value for metric, value in found.items()}
        return metrics


class _Splits:
    """The splits of a dataset for one encoder: each is embedded once, when an evaluator first needs it.

    With a fingerprint of the encoder, embeddings and scores are looked up on disk and kept there.
    """

    def __init__(self, scorer: Scorer, encoder: nn.Module, fingerprint: str | None) -> None:
        self._scorer, self._encoder, self._fingerprint = scorer, encoder, fingerprint
        self._embedded: dict[str, Embeddings] = {}

    def scores(self, evaluator: Evaluator, names: Sequence[str]) -> dict[str, float]:
        """Return what an evaluator says of the splits of these names."""

        def compute() -> dict[str, float]:
            return evaluator(*(self._embeddings(name) for name in names))

        cache, key = self._scorer.cache, self._score_key(evaluator, names)
        return compute() if cache is None or key is None else ScoreCache(cache / "scores").get(key, compute)

    def _score_key(self, evaluator: Evaluator, names: Sequence[str]) -> str | None:
        keyed = [(key, self._images(name)) for name in names if (key := self._key(name)) is not None]
        return score_key(evaluator, keyed, self._scorer.data.spec.num_labels) if keyed else None

    def _embeddings(self, name: str) -> Embeddings:
        if name not in self._embedded:
            images = self._images(name)
            with tqdm(total=len(images), desc=f"embedding {name}", unit="img", leave=False, delay=2) as bar:
                self._embedded[name] = self._embed(images, self._key(name), bar.update)
        return self._embedded[name]

    def _embed(self, images: Images, key: str | None, progress: Callable[[int], object]) -> Embeddings:
        scorer = self._scorer
        return embed(
            self._encoder,
            images,
            scorer.input,
            num_labels=scorer.data.spec.num_labels,
            multilabel=scorer.data.spec.multilabel,
            device=scorer.device,
            batch_size=scorer.batch_size,
            precision=scorer.precision,
            num_workers=scorer.num_workers,
            progress=progress,
            cache=None if key is None or scorer.cache is None else EmbeddingCache(scorer.cache / "embeddings"),
            key=key,
        )

    def _key(self, name: str) -> str | None:
        if self._fingerprint is None:
            return None
        return cache_key(self._fingerprint, self._images(name), self._scorer.input, self._scorer.precision)

    def _images(self, name: str) -> Images:
        images: Images = getattr(self._scorer.data, name)
        return images
