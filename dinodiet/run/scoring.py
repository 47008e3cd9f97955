"""Scores of a run's encoders: what is missing is computed, and each is written as soon as it is known."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

from torch import nn

from dinodiet.config.identity import canonical, evaluation_dataset_label, score_id
from dinodiet.config.settings import Settings
from dinodiet.evals.scorer import Scored, Scorer
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import Metrics, ScoreFile, read_scores, write_scores
from dinodiet.types import Score, Work


@dataclass(frozen=True)
class Scoring:
    """Scores encoders for one run, and writes a file an evaluation into its directory."""

    settings: Settings
    run_dir: RunDir
    scorer: Scorer

    def ensure(
        self, phase: str, encoder: nn.Module, *, shared: bool = False, only: Collection[str] | None = None
    ) -> list[ScoreFile]:
        """Have the scores of an encoder in the run directory; return those of the wanted evaluators (None: of all).

        `shared` also keeps them, and the embeddings, for other runs of the same frozen encoder.
        """
        every, there, missing = _found(self.settings, self.run_dir, phase)
        wanted = {name: key for name, key in every.items() if only is None or name in only}
        missing = [name for name in missing if name in wanted]
        for name, scored in self._scored(encoder, phase, missing, shared).items():
            there[wanted[name]] = self._written(wanted[name], name, phase, scored)
            self._drop_work(wanted[name])
        return [there[key] for key in wanted.values()]

    @property
    def followed(self) -> list[str]:
        """Return the evaluators that need what they chose before the training, to be called after it."""
        evaluators = self.scorer.evaluators.items()
        return [name for name, evaluator in evaluators if evaluator.needs == "training" and evaluator.follows]

    def _scored(self, encoder: nn.Module, phase: str, names: list[str], shared: bool) -> dict[str, Scored]:
        if not names:
            return {}
        scored: dict[str, Scored] = self.scorer(
            encoder,
            only=names,
            cached=shared,
            folder=self.run_dir.artefacts / phase,
            work={name: self._work(name, phase) for name in names},
        )
        return scored

    def _work(self, name: str, phase: str) -> Work:
        initial = score_id(self.settings, name, "initial")
        before = None
        if phase != "initial" and name in self.followed:
            before = next((there.protocol for there in read_scores(self.run_dir) if there.key == initial), None)
        folder = self.run_dir.work / score_id(self.settings, name, phase)
        return Work(folder, 60 * self.settings.checkpoint_minutes, before=before)

    def _drop_work(self, key: str) -> None:
        shutil.rmtree(self.run_dir.work / key, ignore_errors=True)
        with contextlib.suppress(OSError):  # others are at work, or none is
            self.run_dir.work.rmdir()

    def _written(self, key: str, name: str, phase: str, scored: Scored) -> ScoreFile:
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
            artefacts=[f"{self.run_dir.artefacts.name}/{phase}/{name}" for name in scored.artefacts],
            protocol=scored.protocol,
        )
        write_scores(self.run_dir, scores)
        return scores


def missing_scores(settings: Settings, run_dir: RunDir, phase: str) -> list[str]:
    """Return the wanted evaluators whose scores of an encoder are not in the run directory."""
    return _found(settings, run_dir, phase)[2]


def _found(settings: Settings, run_dir: RunDir, phase: str) -> tuple[dict[str, str], dict[str, ScoreFile], list[str]]:
    """Return the keys of wanted scores by evaluator, the scores that are there by key, and whose are missing."""
    wanted = {name: score_id(settings, name, phase) for name in settings.evaluation.evaluators}
    there = {scores.key: scores for scores in read_scores(run_dir) if _is_whole(settings, scores)}
    return wanted, there, [name for name, key in wanted.items() if key not in there]


def _is_whole(settings: Settings, scores: ScoreFile) -> bool:
    return scores.val is not None or scores.skipped is not None or not settings.evaluation.validation


def _plain(scores: Mapping[str, Score]) -> Metrics:
    """Return scores as they are stored: without what is not known of them."""
    return {
        name: {key: part for key, part in asdict(score).items() if part is not None} for name, score in scores.items()
    }


def flat(files: Sequence[ScoreFile]) -> dict[str, float]:
    """Return the test metrics of files by `<eval>/<metric>`."""
    return {f"{file.evaluator}/{name}": entry["value"] for file in files for name, entry in file.test.items()}


def metrics_of(scores: Mapping[str, Mapping[str, Score]]) -> dict[str, float]:
    """Return the metrics among scores by `<eval>/<metric>`, without the settings that they depend on."""
    return {
        f"{evaluator}/{name}": score.value
        for evaluator, found in scores.items()
        for name, score in found.items()
        if score.kind == "metric"
    }
