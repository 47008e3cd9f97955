"""The first page of a report: a study's progress, scores, changes, tests, curves, cost, failures and runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dinodiet.results.report import progress, scores
from dinodiet.results.report.elements import Section
from dinodiet.results.report.study import Study

SECTIONS: dict[str, tuple[str, Callable[[Study], Section | None]]] = {
    "progress": ("Progress", progress.progress),
    "failures": ("Failures", progress.failures),
    "scores": ("Scores", scores.headline),
    "change": ("What the training changed", scores.changes),
    "map": ("Changes at a glance", scores.heat),
    "tests": ("Paired tests", scores.tests),
    "curves": ("Learning curves", progress.learning),
    "cost": ("Cost", progress.costs),
    "differences": ("Where settings differ", progress.differences),
    "runs": ("Runs", progress.all_runs),
}
LATER = (
    "change",
    "map",
    "tests",
    "curves",
)  # what takes seconds on thousands of runs: a live page fetches it when seen


def sections(study: Study, names: Iterable[str] = SECTIONS) -> list[Section]:
    """Return the named sections that have something to say."""
    made = (SECTIONS[name][1](study) for name in names)
    return [section for section in made if section is not None]


def later() -> dict[str, str]:
    """Return names and titles of the sections that a live page fetches."""
    return {name: SECTIONS[name][0] for name in LATER}
