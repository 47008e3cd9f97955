"""Scores in a run directory: one file an evaluation, and their summary in `results.json`. Imports no torch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from dinodiet.config.groups import BUDGET, PHASES, STUDENT
from dinodiet.errors import UserError
from dinodiet.io.files import is_interval, is_number, read_json, write_json
from dinodiet.store.protocol import difference
from dinodiet.store.rundir import RunDir

FORMAT = 2  # of a file of scores and of results.json; raise it when either changes
BUDGET_COLUMNS = {"per_class": "labels_per_class", "fraction": "label_fraction"}  # what tables call the kinds
BUDGET_KINDS = tuple(BUDGET_COLUMNS)
Place = tuple[str, str]  # an evaluator's name, and its budget of labels; empty: all labels
Metrics = dict[str, dict[str, Any]]  # by name: value, better, kind, perhaps interval and note (`dinodiet.types.Score`)


@dataclass(frozen=True)
class ScoreFile:
    """What one evaluator said of one encoder.

    Attributes:
        key: name of the file; a hash of the evaluation's identity is part of it.
        evaluator: its name in the configuration.
        phase: `initial`, `final`, or `step<n>` of a checkpoint.
        dataset: what was scored; None: the dataset that was trained on.
        settings: the evaluator's node.
        test, val: metrics by name; `val` is None where it was not asked for.
        skipped: why there are no scores, or None.
        artefacts: figures and tables, relative to the run directory.
        protocol: how the scores were measured, where that is recorded; see `dinodiet.store.protocol`.
        labels: which images of train were given: `per_class` or `fraction`, `rule` and `seed` of the draw, how many
            (`images`, of so many `of`), and a `digest` of their positions; None: all.
        fits_labels: whether the evaluator uses labels of train at all; if not, its scores are those of every budget.
        of_train: whether the scores are of train alone; those of test and val are the same then.
        tower: `evaluated`: the encoder that a run evaluates; `trained`: the student of a teacher that is evaluated.
        written: seconds since the epoch; of two evaluations with one name the first keeps the plain name.
    """

    key: str
    evaluator: str
    phase: str
    settings: dict[str, Any]
    dataset: str | None = None
    test: Metrics = field(default_factory=dict)
    val: Metrics | None = None
    skipped: str | None = None
    artefacts: list[str] = field(default_factory=list)
    protocol: dict[str, Any] | None = None
    labels: dict[str, Any] | None = None
    fits_labels: bool = True
    of_train: bool = False
    tower: str = "evaluated"
    written: float = field(default_factory=time.time)

    @property
    def name(self) -> str:
        """What scores are called by: the evaluator, of a student behind `student/`."""
        return self.evaluator if self.tower == "evaluated" else STUDENT + self.evaluator


def write_scores(run_dir: RunDir, scores: ScoreFile) -> None:
    """Write a file of scores, whole or not at all."""
    write_json(run_dir.scores / f"{scores.key}.json", {"format": FORMAT, **asdict(scores)})


def read_scores(run_dir: RunDir) -> list[ScoreFile]:
    """Return all scores of a run, oldest first; files of another format and broken ones are left out."""
    contents = [read_json(path) for path in sorted(run_dir.scores.glob("*.json"))]
    known = [content for content in contents if content is not None and content.pop("format", None) == FORMAT]
    files = [scores for content in known if (scores := _scores(content)) is not None]
    return sorted(files, key=lambda scores: (scores.written, scores.key))


def _scores(content: dict[str, Any]) -> ScoreFile | None:
    try:
        scores = ScoreFile(**content)
    except TypeError:
        return None
    texts = all(
        isinstance(word, str) for word in (scores.key, scores.evaluator, scores.phase, scores.tower, *scores.artefacts)
    )
    whole = texts and isinstance(scores.settings, dict) and is_number(scores.written)
    whole = _is_budget(scores.labels) and whole and (scores.protocol is None or isinstance(scores.protocol, dict))
    return scores if whole and _are_metrics(scores.test) and _are_metrics(scores.val or {}) else None


def _is_budget(labels: Any) -> bool:
    return labels is None or (
        isinstance(labels, dict)
        and {"seed", "images", "of", "rule"} <= labels.keys()
        and any(is_number(labels.get(kind)) for kind in BUDGET_KINDS)
    )


def _are_metrics(found: Any) -> bool:
    return isinstance(found, dict) and all(
        isinstance(entry, dict)
        and {"value", "kind", "better"} <= entry.keys()
        and (entry["value"] is None or is_number(entry["value"]))
        and (entry.get("interval") is None or is_interval(entry["interval"]))
        and isinstance(entry.get("note"), str | None)
        for entry in found.values()
    )


def summary(files: Iterable[ScoreFile]) -> dict[str, Any]:
    """Return what `results.json` says of a run's scores: metrics and what belongs to them by phase, and their files.

    `refused` says why the scores of an evaluator before and after the training are not to be subtracted. Those
    on a budget of labels are rows of their own, in `budgets`; `label_free` are evaluations without labels of train,
    `of_train` the evaluators that measure train alone.
    """
    found: dict[str, Any] = {
        "initial": {},
        "final": {},
        "validation": {"initial": {}, "final": {}},
        "settings": {"initial": {}, "final": {}},
        "diagnostics": {"initial": {}, "final": {}},
        "intervals": {"initial": {}, "final": {}},
        "notes": {"initial": {}, "final": {}},
        "better": {},
        "skipped": {},
        "refused": {},
        "evaluations": {},
        "budgets": [],
        "label_free": [],
        "of_train": [],
    }
    kept = [scores for scores in files if scores.phase in PHASES]
    names = _names(kept)
    found["refused"] = {name: reason for (name, budget), reason in _refused(names).items() if not budget}
    found["budgets"] = budget_rows(kept)
    found["of_train"] = sorted({name for scores, name in names if scores.of_train})
    for scores, name in names:
        found["evaluations"][scores.key] = scores.val is not None or scores.skipped is not None
        found["better"] |= {f"{name}/{key}": m["better"] for key, m in scores.test.items() if m["kind"] == "metric"}
        if not scores.fits_labels:
            found["label_free"].append(scores.key)
        if scores.labels is not None:
            continue
        if scores.skipped is not None:
            found["skipped"][name] = scores.skipped
        found[scores.phase] |= _values(name, scores.test, "metric")
        found["validation"][scores.phase] |= _values(name, scores.val or {}, "metric")
        found["settings"][scores.phase] |= _values(name, scores.test, "setting")
        found["diagnostics"][scores.phase] |= _values(name, scores.test, "diagnostic")
        found["intervals"][scores.phase] |= _known(name, scores.test, "interval")
        found["notes"][scores.phase] |= _known(name, scores.test, "note")
    return found


def _refused(names: Iterable[tuple[ScoreFile, str]]) -> dict[Place, str]:
    """Return why scores cannot be compared, of those that were measured in both phases."""
    sides = {(scores.phase, _place(scores, name)): scores for scores, name in names if scores.skipped is None}
    both = [place for phase, place in sides if phase == PHASES[0] and (PHASES[1], place) in sides]
    told = {place: _difference(sides[PHASES[0], place], sides[PHASES[1], place]) for place in both}
    return {place: reason for place, reason in told.items() if reason is not None}


def _place(scores: ScoreFile, name: str) -> Place:
    labels = scores.labels or {}
    return name, " ".join(f"{key}={labels[key]}" for key in (*BUDGET_KINDS, "rule", "seed") if key in labels)


def _difference(initial: ScoreFile, final: ScoreFile) -> str | None:
    if (initial.labels or {}).get("digest") != (final.labels or {}).get("digest"):
        return "the labels before are of other images than those after"
    return difference(initial.protocol, final.protocol)


def budget_rows(files: Sequence[ScoreFile]) -> list[dict[str, Any]]:
    """Return a row for each score on a budget of labels: evaluator, phase, budget, and metrics of test and val.

    `refused` says why the scores before and after the training are not to be subtracted, None where they may be.
    """
    names = _names(files)
    refused = _refused(names)
    return [_row(*one, refused.get(_place(*one))) for one in names if one[0].labels is not None]


def _row(scores: ScoreFile, name: str, refused: str | None) -> dict[str, Any]:
    """Return the row of a score on a budget of labels."""
    assert scores.labels is not None
    return {
        "evaluator": name,
        "phase": scores.phase,
        **{key: value for key, value in scores.labels.items() if key != "digest"},
        "test": _values(name, scores.test, "metric"),
        "val": _values(name, scores.val or {}, "metric"),
        "settings": _values(name, scores.test, "setting"),
        "skipped": scores.skipped,
        "refused": refused,
    }


def read_results(run_dir: RunDir) -> dict[str, Any] | None:
    """Return a run's results; None where there are none, or a part of them.

    Raises:
        UserError: they were written in another format.
        OSError: they are there and cannot be read: the run is not to be done again for that.
    """
    results = read_json(run_dir.results)
    if results is None and run_dir.results.exists():
        run_dir.results.read_bytes()
    if results is not None and results.get("format") != FORMAT:
        raise UserError(
            f"{run_dir.results}: written by another version (format {results.get('format')}; this one reads {FORMAT}); "
            "move the run directory away to do the run again"
        )
    return results


def write_results(run_dir: RunDir, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write `results.json` with the summary of all scores that lie in the run directory; return what was written."""
    results = {"format": FORMAT, **content, **summary(read_scores(run_dir)), "finished": time.time()}
    write_json(run_dir.results, results)
    return results


def is_whole(scores: ScoreFile, *, validation: bool) -> bool:
    """Return whether nothing of an evaluation is missing: where `validation` is asked for, the scores on it too."""
    return scores.val is not None or scores.skipped is not None or not validation


def lacks(results: Mapping[str, Any], wanted: Iterable[str], *, validation: bool) -> bool:
    """Return whether some of the wanted scores are not in a run's results, or not on the validation split.

    Of an evaluation that uses no labels of train, its one score serves every budget.
    """
    there: Mapping[str, bool] = results.get("evaluations", {})
    once = set(results.get("label_free", ()))
    asked = {whole if (whole := key.partition(BUDGET)[0]) in once else key for key in wanted}
    return any(key not in there or (validation and not there[key]) for key in asked)


def _values(name: str, metrics: Metrics, kind: str) -> dict[str, float]:
    return {f"{name}/{key}": number(entry["value"]) for key, entry in metrics.items() if entry["kind"] == kind}


def _known(name: str, metrics: Metrics, what: str) -> dict[str, Any]:
    return {f"{name}/{key}": entry[what] for key, entry in metrics.items() if entry.get(what) is not None}


def number(value: float | None) -> float:
    """Return a stored number: JSON has no NaN, it is written as null."""
    return math.nan if value is None else float(value)


def _names(files: Sequence[ScoreFile]) -> list[tuple[ScoreFile, str]]:
    """Return every file with the name of its evaluator; where settings or dataset differ, the name says how."""
    first: dict[tuple[str, str | None], Mapping[str, Any]] = {}
    named = []
    for scores in files:
        headline = first.setdefault((scores.evaluator, scores.dataset), scores.settings)
        differing = {key for key in {*headline, *scores.settings} if headline.get(key) != scores.settings.get(key)}
        how = ", ".join(f"{key}={scores.settings.get(key)}" for key in sorted(differing))
        place = "" if scores.dataset is None else f"@{scores.dataset}"
        named.append((scores, f"{scores.name}{place}" + (f"({how})" if how else "")))
    return named
