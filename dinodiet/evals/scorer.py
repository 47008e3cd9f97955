"""Scores of an encoder: every split embedded once, all evaluators on the same embeddings."""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from dinodiet.errors import NotApplicable, UserError
from dinodiet.evals.score_cache import ReportCache, ScoreCache, encoder_key, score_key
from dinodiet.evals.splits import Embedder, LazyEncoderSplits, LazySplits, LazyTrainingSplits
from dinodiet.features.embed import fingerprint
from dinodiet.types import (
    Backbone,
    Data,
    Evaluator,
    InputSpec,
    Report,
    Runtime,
    Score,
    TokenEvaluator,
    TrainingEvaluator,
    Work,
)

NEEDS = ("embeddings", "encoder", "training")


@dataclass(frozen=True)
class Scored:
    """What one evaluator says of an encoder: scores by name on test and, for comparing settings, on val.

    `val` is None where it was not asked for. `skipped` says why scores are absent. `artefacts` are the files that the
    evaluator wrote, relative to the folder that it was given. `protocol` says how the scores were measured, of
    evaluators that record it.
    """

    test: dict[str, Score] = field(default_factory=dict)
    val: dict[str, Score] | None = None
    skipped: str | None = None
    artefacts: list[str] = field(default_factory=list)
    protocol: dict[str, Any] | None = None


class Scorer:
    """Scores encoders on a dataset.

    `validation` also scores on val when test is scored, so that settings can be compared without looking at test. The
    runtime's cache is the folder of embeddings and scores of frozen encoders that runs share. `backbone` is what will
    be scored, where that is known: evaluators that do not suit it are left out.

    Raises:
        UserError: an evaluator's settings do not fit the data or backbone (on construction, before any work).
    """

    def __init__(
        self,
        evaluators: Mapping[str, Evaluator],
        data: Data,
        input: InputSpec,
        runtime: Runtime,
        *,
        validation: bool,
        backbone: Backbone | None = None,
    ) -> None:
        self.evaluators: dict[str, Evaluator] = {}
        self.skipped: dict[str, str] = {}
        self.data, self.input, self.runtime, self.validation = data, input, runtime, validation
        for name, evaluator in evaluators.items():
            _refuse_other_contracts(name, evaluator)
            try:
                with _under(name, evaluator):
                    evaluator.applies(data.spec, len(data.train))
                    if backbone is not None and isinstance(evaluator, TokenEvaluator):
                        evaluator.suits(backbone)
            except NotApplicable as reason:
                self.skipped[name] = str(reason)
            else:
                self.evaluators[name] = evaluator

    def __call__(
        self,
        encoder: nn.Module,
        *,
        only: Collection[str] | None = None,
        cached: bool = False,
        folder: Path | None = None,
        work: Mapping[str, Work] | None = None,
    ) -> dict[str, Scored]:
        """Return what each evaluator says, by its name.

        `only` names the evaluators to call (None: all). `cached` keeps embeddings and scores on disk for other runs of
        the same frozen encoder. Artefacts are written to `folder/<evaluator>/<split>/` (None: nowhere). `work` says
        by name where evaluators that train keep what they continue from.
        """
        key = fingerprint(encoder) if cached and self.runtime.cache is not None else None
        embedder = Embedder(encoder, self.data, self.input, self.runtime, key)
        asked = {*self.evaluators, *self.skipped} if only is None else set(only)
        scored = {name: Scored(skipped=reason) for name, reason in self.skipped.items() if name in asked}
        for name, evaluator in self.evaluators.items():
            if name in asked:
                place = (work or {}).get(name, Work())
                scored[name] = (
                    self._trained(name, evaluator, embedder, folder, place)
                    if evaluator.needs == "training"
                    else self._scored(name, evaluator, embedder, folder)
                )
        return scored

    def validate(self, encoder: nn.Module) -> dict[str, dict[str, Score]]:
        """Return the scores on val alone, by the evaluator's name; those that train are not called for that."""
        embedder = Embedder(encoder, self.data, self.input, self.runtime)
        found: dict[str, dict[str, Score]] = {}
        for name, evaluator in self.evaluators.items():
            with contextlib.suppress(NotApplicable):
                if evaluator.needs != "training":
                    found[name] = self._scores(name, evaluator, embedder, "val", None)
        return found

    def _trained(
        self, name: str, evaluator: TrainingEvaluator, embedder: Embedder, folder: Path | None, work: Work
    ) -> Scored:
        """Return what an evaluator says that trains: once, on test and val; from the cache where one is asked for."""
        place = None if folder is None else folder / name
        key = self._encoder_key(evaluator, embedder, work.before)
        splits = LazyTrainingSplits(embedder, "test", place, replace(work, key=key))
        try:
            with _under(name, evaluator):
                report = self._report(evaluator, embedder, place, key, lambda: evaluator(splits))
        except NotApplicable as reason:
            return Scored(skipped=str(reason), artefacts=_files(folder, name))
        val = report.val if self.validation else None
        return Scored(report.test, val, None, _files(folder, name), report.protocol)

    def _encoder_key(self, evaluator: Evaluator, embedder: Embedder, *more: object) -> str:
        known = embedder.fingerprint or fingerprint(embedder.encoder)
        splits = [embedder.images(name) for name in ("train", "test", "val")]
        return encoder_key(evaluator, known, self.input, splits, self.runtime.precision, *more)

    def _report(
        self,
        evaluator: Evaluator,
        embedder: Embedder,
        artefacts: Path | None,
        key: str,
        compute: Callable[[], Report],
    ) -> Report:
        cache = self.runtime.cache
        if cache is None or embedder.fingerprint is None:
            return compute()
        return ReportCache(cache / "reports").get(evaluator, key, artefacts, compute)

    def _scored(self, name: str, evaluator: Evaluator, embedder: Embedder, folder: Path | None) -> Scored:
        found: dict[str, dict[str, Score]] = {}
        skipped = None
        for reported in ("test", "val") if self.validation else ("test",):
            place = None if folder is None else folder / name / reported
            try:
                found[reported] = self._scores(name, evaluator, embedder, reported, place)
            except NotApplicable as reason:
                skipped = skipped or (str(reason) if reported == "test" else f"on val: {reason}")
        return Scored(found.get("test", {}), found.get("val"), skipped, _files(folder, name))

    def _scores(
        self, name: str, evaluator: Evaluator, embedder: Embedder, reported: str, folder: Path | None
    ) -> dict[str, Score]:
        with _under(name, evaluator):
            assert evaluator.needs != "training"
            if evaluator.needs == "encoder":
                images = LazyEncoderSplits(embedder, reported, folder)
                compute = functools.partial(evaluator, images)
                return self._kept(evaluator, images, compute) if isinstance(evaluator, TokenEvaluator) else compute()
            splits = LazySplits(embedder, reported)
            return self._kept(evaluator, splits, functools.partial(evaluator, splits))

    def _kept(
        self, evaluator: Evaluator, splits: LazySplits, compute: Callable[[], dict[str, Score]]
    ) -> dict[str, Score]:
        """Return the scores from the cache where the encoder is frozen and the evaluator known."""
        cache, embedder = self.runtime.cache, splits.embedder
        keyed = [(key, embedder.images(name)) for name in splits.names if (key := embedder.key(name)) is not None]
        key = score_key(evaluator, keyed, self.data.spec.num_labels) if keyed else None
        return compute() if cache is None or key is None else ScoreCache(cache / "scores").get(key, compute)


def flat(
    scores: Mapping[str, Mapping[str, Score]], kind: Literal["metric", "setting"] | None = None
) -> dict[str, Score]:
    """Return the scores of evaluators by `<evaluator>/<name>`: the metrics, the settings, or (None) both."""
    return {
        f"{name}/{metric}": score
        for name, found in scores.items()
        for metric, score in found.items()
        if kind in (None, score.kind)
    }


def values(scores: Mapping[str, Score]) -> dict[str, float]:
    """Return scores without what is known about them."""
    return {name: score.value for name, score in scores.items()}


def _files(folder: Path | None, name: str) -> list[str]:
    """Return the files that an evaluator has left below its folder, relative to that of all."""
    if folder is None:
        return []
    return sorted(path.relative_to(folder).as_posix() for path in (folder / name).rglob("*") if path.is_file())


def _refuse_other_contracts(name: str, evaluator: Evaluator) -> None:
    """Raise UserError, naming what is missing, for an object that is no evaluator."""
    lacks = [member for member in ("needs", "applies", "__call__") if not hasattr(evaluator, member)]
    if lacks:
        raise UserError(
            f"eval.{name}: {type(evaluator).__name__} lacks {', '.join(lacks)}, which an evaluator has; "
            "see dinodiet.types.Evaluator"
        )
    if evaluator.needs not in NEEDS:
        raise UserError(f"eval.{name}: needs {evaluator.needs!r}; choose from: {', '.join(NEEDS)}")


@contextlib.contextmanager
def _under(name: str, evaluator: Evaluator) -> Iterator[None]:
    """Tell errors of an evaluator's arguments under its name in the configuration; others are not its own."""
    try:
        yield
    except UserError as error:
        if str(error).partition(":")[0] in inspect.signature(type(evaluator)).parameters:
            raise UserError(f"eval.{name}.{error}") from error
        raise
