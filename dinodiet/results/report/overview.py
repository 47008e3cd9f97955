"""The first page of a report: a study's progress, scores, changes, tests, curves, cost, failures and runs."""

from __future__ import annotations

from collections.abc import Callable

from dinodiet.results.report import progress, scores
from dinodiet.results.report.elements import Note, Section
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


def sections(study: Study) -> list[Section]:
    """Return the sections that have something to say."""
    made = (make(study) for _, make in SECTIONS.values())
    return [section for section in made if section is not None]


def live_sections(study: Study, address: str) -> list[Section]:
    """Return the sections of a live page: those of `LATER` are fetched from below an address."""
    made = (
        Section(name, title, source=f"{address}/{name}") if name in LATER else make(study)
        for name, (title, make) in SECTIONS.items()
    )
    return [section for section in made if section is not None]


def one_section(study: Study, name: str) -> Section:
    """Return one of the sections of `LATER`."""
    title, make = SECTIONS[name]
    return make(study) or Section(name, title, [Note("Nothing to show yet.")])
