"""Scores of an encoder: every split embedded once, all evaluators and label budgets on the same embeddings."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from dinodiet.config.budgets import Budget
from dinodiet.config.groups import BUDGET
from dinodiet.errors import NotApplicable
from dinodiet.evals.asked import Asked, Evaluation, argument_errors
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
    of_train,
)


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

    `budgets` are the budgets of labels to score with, each a part of train; None stands for all of it. `validation`
    also scores on val when test is scored, so that settings can be compared without looking at test. The runtime's
    cache is the folder of embeddings and scores of frozen encoders that runs share. `backbone` is what will be scored,
    where that is known: evaluators that do not suit it are left out.

    Raises:
        UserError: an evaluator's settings do not fit the data or backbone, or a budget of labels does not (on
            construction, before any work).
    """

    def __init__(
        self,
        evaluators: Mapping[str, Evaluator],
        data: Data,
        input: InputSpec,
        runtime: Runtime,
        *,
        validation: bool,
        budgets: Sequence[Budget | None] = (None,),
        backbone: Backbone | None = None,
    ) -> None:
        self.asked = Asked(evaluators, data, budgets, backbone)
        self.data, self.input, self.runtime, self.validation = data, input, runtime, validation

    def __call__(
        self,
        encoder: nn.Module,
        *,
        only: Collection[str] | None = None,
        cached: bool = False,
        folder: Path | None = None,
        work: Mapping[str, Work] | None = None,
    ) -> dict[str, Scored]:
        """Return what each evaluator says on all labels, by its name; `only` names those to call (None: all).

        The rest is as in `scores`.
        """
        names = [name for name in (*self.asked.skipped, *self.asked.evaluators) if only is None or name in only]
        places: dict[Evaluation, Work] = {(name, None): (work or {}).get(name, Work()) for name in names}
        found = self.scores(encoder, places, cached=cached, folder=folder, work=places)
        return {name: scored for (name, _), scored in found}

    def scores(
        self,
        encoder: nn.Module,
        asked: Iterable[Evaluation],
        *,
        cached: bool = False,
        folder: Path | None = None,
        work: Mapping[Evaluation, Work] | None = None,
    ) -> Iterator[tuple[Evaluation, Scored]]:
        """Yield what evaluators say, each on its budget of labels; a split is embedded once for all of them.

        `cached` keeps embeddings and scores on disk for other runs of the same frozen encoder. Artefacts are written to
        `folder/<evaluator>/<split>/` (None: nowhere), of a budget to `folder/<evaluator>+<budget>/<split>/`; the split
        is `train` where scores are of train alone. `work` says where evaluators that train keep what they go on from.
        """
        key = fingerprint(encoder) if cached and self.runtime.cache is not None else None
        embedder = Embedder(encoder, self.data, self.input, self.runtime, key)
        for name, budget in asked:
            reason = self.asked.left_out.get((name, budget)) or self.asked.skipped.get(name)
            place = (work or {}).get((name, budget), Work())
            yield (
                (name, budget),
                (
                    Scored(skipped=reason)
                    if reason is not None
                    else self._scored_or_trained((name, budget), embedder, folder, place)
                ),
            )

    def _scored_or_trained(self, asked: Evaluation, embedder: Embedder, folder: Path | None, work: Work) -> Scored:
        evaluator = self.asked.evaluators[asked[0]]
        if evaluator.needs == "training":
            return self._trained(asked, evaluator, embedder, folder, work)
        return self._scored(asked, embedder, folder)

    def _positions(self, budget: Budget | None) -> Tensor | None:
        return None if budget is None else self.asked.subsets[budget].positions

    def validate(self, encoder: nn.Module) -> dict[str, dict[str, Score]]:
        """Return the scores on val alone, by the evaluator's name; those that train are not called for that."""
        embedder = Embedder(encoder, self.data, self.input, self.runtime)
        found: dict[str, dict[str, Score]] = {}
        for name in self.asked.evaluators:
            with contextlib.suppress(NotApplicable):
                if self.asked.evaluators[name].needs != "training":
                    found[name] = self._scores((name, None), embedder, "val", None)
        return found

    def _trained(
        self, asked: Evaluation, evaluator: TrainingEvaluator, embedder: Embedder, folder: Path | None, work: Work
    ) -> Scored:
        """Return what an evaluator says that trains: once, on test and val; from the cache where one is asked for."""
        own, subset = _own(asked), None if asked[1] is None else self.asked.subsets[asked[1]]
        place = None if folder is None else folder / own
        drawn = () if subset is None else (subset.digest,)
        key = self._encoder_key(evaluator, embedder, work.before, *drawn)
        positions = None if subset is None else subset.positions
        splits = LazyTrainingSplits(embedder, "test", place, replace(work, key=key), positions=positions)
        try:
            with argument_errors(asked[0], evaluator):
                report = self._report(evaluator, embedder, place, key, lambda: evaluator(splits))
        except NotApplicable as reason:
            return Scored(skipped=str(reason), artefacts=_files(folder, own))
        val = report.val if self.validation else None
        return Scored(report.test, val, None, _files(folder, own), report.protocol)

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

    def _scored(self, asked: Evaluation, embedder: Embedder, folder: Path | None) -> Scored:
        own, once = _own(asked), of_train(self.asked.evaluators[asked[0]])
        found: dict[str, dict[str, Score]] = {}
        skipped = None
        for reported in ("test", "val") if self.validation and not once else ("test",):
            place = None if folder is None else folder / own / ("train" if once else reported)
            try:
                found[reported] = self._scores(asked, embedder, reported, place)
            except NotApplicable as reason:
                skipped = skipped or (str(reason) if reported == "test" else f"on val: {reason}")
        val = found.get("test" if once else "val") if self.validation else None
        return Scored(found.get("test", {}), val, skipped, _files(folder, own))

    def _scores(self, asked: Evaluation, embedder: Embedder, reported: str, folder: Path | None) -> dict[str, Score]:
        name, budget = asked
        evaluator = self.asked.evaluators[name]
        positions = self._positions(budget)
        with argument_errors(name, evaluator):
            assert evaluator.needs != "training"
            if evaluator.needs == "encoder":
                images = LazyEncoderSplits(embedder, reported, folder, positions=positions)
                compute = functools.partial(evaluator, images)
                return self._kept(evaluator, images, compute) if isinstance(evaluator, TokenEvaluator) else compute()
            splits = LazySplits(embedder, reported, positions=positions)
            return self._kept(evaluator, splits, functools.partial(evaluator, splits))

    def _kept(
        self, evaluator: Evaluator, splits: LazySplits, compute: Callable[[], dict[str, Score]]
    ) -> dict[str, Score]:
        """Return the scores from the cache where the encoder is frozen and the evaluator known."""
        cache, embedder = self.runtime.cache, splits.embedder
        keyed = [(key, embedder.images(name)) for name in splits.names if (key := embedder.key(name)) is not None]
        key = score_key(evaluator, keyed, self.data.spec.num_labels, splits.positions) if keyed else None
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


def _own(asked: Evaluation) -> str:
    """Return the name of an evaluation's folder."""
    return asked[0] if asked[1] is None else f"{asked[0]}{BUDGET}{asked[1].name}"


def _files(folder: Path | None, name: str) -> list[str]:
    """Return the files that an evaluator has left below its folder, relative to that of all."""
    if folder is None:
        return []
    return sorted(path.relative_to(folder).as_posix() for path in (folder / name).rglob("*") if path.is_file())
