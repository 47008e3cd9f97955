"""Scores of an encoder: every split embedded once, all evaluators on the same embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from dinodiet.errors import NotApplicable
from dinodiet.evals.embed import EmbeddingCache, embed
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
        cache: EmbeddingCache | None,
    ) -> None:
        self.evaluators: dict[str, Evaluator] = {}
        self.skipped: dict[str, str] = {}
        self.data, self._input, self._device = data, input, device
        self._batch_size, self._precision, self._num_workers = batch_size, precision, num_workers
        self._validation, self._cache = validation, cache
        for name, evaluator in evaluators.items():
            self._add(name, evaluator)

    def _add(self, name: str, evaluator: Evaluator) -> None:
        check = getattr(evaluator, "check", None)
        try:
            if check is not None:
                check(len(self.data.train), self.data.spec.num_labels, self.data.spec.multilabel)
        except NotApplicable as reason:
            self.skipped[name] = str(reason)
        else:
            self.evaluators[name] = evaluator

    def __call__(self, encoder: nn.Module, *, cached: bool = False) -> Scores:
        """Return the scores; `cached` keeps the embeddings on disk for other runs of the same frozen encoder."""
        train, test = self._embed(encoder, "train", cached), self._embed(encoder, "test", cached)
        val = self._embed(encoder, "val", cached)
        scores = Scores(skipped=dict(self.skipped))
        scores.test = self._evaluate(train, test, val, scores.skipped)
        if self._validation:
            scores.val = self._evaluate(train, val, None, scores.skipped)
        return scores

    def validate(self, encoder: nn.Module) -> dict[str, float]:
        """Return the scores on val alone."""
        train, val = self._embed(encoder, "train", False), self._embed(encoder, "val", False)
        return self._evaluate(train, val, None, {})

    def _evaluate(
        self, train: Embeddings, test: Embeddings, val: Embeddings | None, skipped: dict[str, str]
    ) -> dict[str, float]:
        metrics: dict[str, float] = {}
        for name, evaluator in self.evaluators.items():
            try:
                found = evaluator(train, test, val)
            except NotApplicable as reason:
                skipped[name] = str(reason)
            else:
                metrics |= {f"{name}/{metric}": value for metric, value in found.items()}
        return metrics

    def _embed(self, encoder: nn.Module, split: str, cached: bool) -> Embeddings:
        images: Images = getattr(self.data, split)
        with tqdm(total=len(images), desc=f"embedding {split}", unit="img", leave=False, delay=2) as bar:
            return self._embed_images(encoder, images, cached, bar.update)

    def _embed_images(
        self, encoder: nn.Module, images: Images, cached: bool, progress: Callable[[int], object]
    ) -> Embeddings:
        return embed(
            encoder,
            images,
            self._input,
            num_labels=self.data.spec.num_labels,
            multilabel=self.data.spec.multilabel,
            device=self._device,
            batch_size=self._batch_size,
            precision=self._precision,
            num_workers=self._num_workers,
            progress=progress,
            cache=self._cache if cached else None,
        )
