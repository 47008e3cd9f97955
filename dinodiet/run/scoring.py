"""Scores of a run's encoders: what is missing is computed, and each is written as soon as it is known."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from dinodiet.config.budgets import Budget, budgets
from dinodiet.config.groups import STUDENT
from dinodiet.config.identity import canonical, classifier_id, evaluation_dataset_label, score_id, scored_towers
from dinodiet.config.schema import Tower
from dinodiet.config.settings import Settings
from dinodiet.evals.asked import Evaluation
from dinodiet.evals.classifier import NAME, classifier_scores, has_classifier
from dinodiet.evals.scorer import Scored, Scorer
from dinodiet.methods.base import MethodBase
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import Metrics, ScoreFile, is_whole, read_scores, write_scores
from dinodiet.types import Data, Method, Score, Work


@dataclass(frozen=True)
class Scoring:
    """Scores encoders for one run, and writes a file an evaluation into its directory.

    `tower` says which of the run's backbones they are.
    """

    settings: Settings
    run_dir: RunDir
    scorer: Scorer
    tower: Tower = "evaluated"

    def of(self, tower: Tower) -> Scoring:
        """Return what scores another backbone of the run."""
        return replace(self, tower=tower)

    def _key(self, phase: str, asked: Evaluation) -> str:
        return score_id(self.settings, asked[0], phase, asked[1], self.tower)

    def ensure(
        self, phase: str, encoder: nn.Module, *, shared: bool = False, only: Collection[str] | None = None
    ) -> list[ScoreFile]:
        """Have the scores of an encoder in the run directory; return those of the wanted evaluators and label budgets.

        `only` names evaluators (None: all). `shared` also keeps scores, and the embeddings, for other runs of the same
        frozen encoder.
        """
        asked = [one for one in self.scorer.asked if only is None or one[0] in only]
        wanted = {one: self._key(phase, one) for one in asked}
        there = {scores.key: scores for scores in read_scores(self.run_dir) if _is_whole(self.settings, scores)}
        missing = [one for one, key in wanted.items() if key not in there]
        for key in there.keys() & set(wanted.values()):
            self._drop_work(key)  # a kill may have come between a score and this
        for one, scored in self._scored(encoder, phase, missing, shared):
            there[wanted[one]] = self._written(wanted[one], one, phase, scored)
            self._drop_work(wanted[one])
        return [self._told(there[key], one[0]) for one, key in wanted.items()]

    @property
    def followed(self) -> list[str]:
        """Return the evaluators that need what they chose before the training, to be called after it."""
        evaluators = self.scorer.asked.evaluators.items()
        return [name for name, evaluator in evaluators if evaluator.needs == "training" and evaluator.follows]

    def repeat(self, phase: str, of: str) -> None:
        """Have the scores of a phase stand for another one, of the same encoder, too; nothing is computed."""
        first = {scores.key: scores for scores in read_scores(self.run_dir)}
        for name, budget in self.scorer.asked:
            before, key = (score_id(self.settings, name, one, budget) for one in (of, phase))
            write_scores(self.run_dir, replace(first[before], key=key, phase=phase))

    def ensure_classifier(self, phase: str, method: Method, data: Data) -> None:
        """Have the scores of the classifier that a method trains in the run directory; without effect if it has none.

        They are those of `data`, which it was trained on, also where evaluators score another dataset.
        """
        input, runtime = self.scorer.input, self.scorer.runtime
        if self.has_classifier_scores(phase) or not has_classifier(method, input, runtime.device):
            return
        key = classifier_id(self.settings, NAME, phase)
        splits = ("test", "val") if self.settings.evaluation.validation else ("test",)
        found = {
            split: _plain(scores) for split, scores in classifier_scores(method, data, input, runtime, splits).items()
        }
        write_scores(self.run_dir, ScoreFile(key, NAME, phase, {}, test=found["test"], val=found.get("val")))

    def has_classifier_scores(self, phase: str) -> bool:
        """Return whether the scores of the classifier that the run trains are in the directory."""
        key = classifier_id(self.settings, NAME, phase)
        return any(scores.key == key and _is_whole(self.settings, scores) for scores in read_scores(self.run_dir))

    def _scored(
        self, encoder: nn.Module, phase: str, asked: list[Evaluation], shared: bool
    ) -> Iterable[tuple[Evaluation, Scored]]:
        if not asked:
            return ()
        work = {one: self._work(one, phase) for one in asked}
        folder = self.run_dir.artefacts / self._place(phase)
        return self.scorer.scores(encoder, asked, cached=shared, folder=folder, work=work)

    def _place(self, phase: str) -> str:
        """Return the folder of what evaluators write of a phase, below that of all artefacts."""
        return phase if self.tower == "evaluated" else f"{phase}/{STUDENT.rstrip('/')}"

    def _told(self, scores: ScoreFile, name: str) -> ScoreFile:
        """Return scores that say whether labels of train had a part in them; older files do not."""
        fits = self.scorer.asked.fits_labels(name)
        if scores.fits_labels != fits:
            scores = replace(scores, fits_labels=fits)
            write_scores(self.run_dir, scores)
        return scores

    def _work(self, asked: Evaluation, phase: str) -> Work:
        initial, before = self._key("initial", asked), None
        if phase != "initial" and asked[0] in self.followed:
            before = next((there.protocol for there in read_scores(self.run_dir) if there.key == initial), None)
        folder = self.run_dir.work / self._key(phase, asked)
        return Work(folder, 60 * self.settings.checkpoint_minutes, before=before)

    def _drop_work(self, key: str) -> None:
        shutil.rmtree(self.run_dir.work / key, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are at work, or none is
            self.run_dir.work.rmdir()

    def _written(self, key: str, asked: Evaluation, phase: str, scored: Scored) -> ScoreFile:
        name, budget = asked
        settings = {k: v for k, v in canonical(self.settings.evaluation.evaluators[name]).items() if k != "_target_"}
        scores = ScoreFile(
            key=key,
            evaluator=name,
            phase=phase,
            settings=settings,
            dataset=evaluation_dataset_label(self.settings),
            test=_plain(scored.test),
            val=None if scored.val is None else _plain(scored.val),
            skipped=scored.skipped,
            artefacts=[f"{self.run_dir.artefacts.name}/{self._place(phase)}/{name}" for name in scored.artefacts],
            protocol=scored.protocol,
            labels=self._labels(budget),
            fits_labels=self.scorer.asked.fits_labels(name),
            of_train=self.scorer.asked.of_train(name),
            tower=self.tower,
        )
        write_scores(self.run_dir, scores)
        return scores

    def _labels(self, budget: Budget | None) -> dict[str, Any] | None:
        """Return what a file says of a budget; of data without labels nothing was drawn."""
        if budget is None:
            return None
        subset = self.scorer.asked.subsets.get(budget)
        return {**budget.plain(), "images": 0, "of": 0, "digest": ""} if subset is None else subset.plain()


def towers_of(settings: Settings, method: MethodBase) -> dict[Tower, nn.Module]:
    """Return the backbones of a method that are scored, the evaluated one first."""
    found: dict[Tower, nn.Module] = {"evaluated": method.encoder, "trained": method.towers()[0]}
    return {tower: found[tower] for tower in scored_towers(settings)}


def missing_scores(settings: Settings, run_dir: RunDir, phase: str) -> list[str]:
    """Return the wanted evaluators of which scores of an encoder, on any budget of labels, are not in the directory."""
    found = [name for tower in scored_towers(settings) for name in _missing_of(settings, run_dir, phase, tower)]
    return list(dict.fromkeys(found))


def _missing_of(settings: Settings, run_dir: RunDir, phase: str, tower: Tower) -> list[str]:
    there = {scores.key: scores for scores in read_scores(run_dir) if _is_whole(settings, scores)}

    def is_there(name: str, budget: Budget | None) -> bool:
        whole = there.get(score_id(settings, name, phase, None, tower))
        once = whole is not None and not whole.fits_labels
        return once or score_id(settings, name, phase, budget, tower) in there

    wanted = budgets(settings.evaluation)
    return [name for name in settings.evaluation.evaluators if not all(is_there(name, budget) for budget in wanted)]


def _is_whole(settings: Settings, scores: ScoreFile) -> bool:
    return is_whole(scores, validation=settings.evaluation.validation)


def _plain(scores: Mapping[str, Score]) -> Metrics:
    """Return scores as they are stored: without what is not known of them."""
    return {
        name: {key: part for key, part in asdict(score).items() if part is not None} for name, score in scores.items()
    }


def flat(files: Sequence[ScoreFile]) -> dict[str, float]:
    """Return the test metrics of files on all labels by `<eval>/<metric>`."""
    whole = [file for file in files if file.labels is None]
    return {f"{file.name}/{name}": entry["value"] for file in whole for name, entry in file.test.items()}


def metrics_of(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, float]:
    """Return the metrics among scores by `<eval>/<metric>`, without the settings that they depend on."""
    return {
        f"{evaluator}/{name}": score.value
        for evaluator, found in scores.items()
        for name, score in found.items()
        if score.kind == "metric"
    }


def on_validation(settings: Settings, scorer: Scorer, method: MethodBase, data: Data) -> dict[str, dict[str, Score]]:
    """Return the scores on val of a method's scored backbones and, where it trains one, of its classifier on `data`."""
    found: dict[str, dict[str, Score]] = {}
    for tower, encoder in towers_of(settings, method).items():
        whose = "" if tower == "evaluated" else STUDENT
        found |= {f"{whose}{name}": scores for name, scores in scorer.validate(encoder).items()}
    if has_classifier(method, scorer.input, scorer.runtime.device):
        found[NAME] = classifier_scores(method, data, scorer.input, scorer.runtime, ("val",))["val"]
    return found
