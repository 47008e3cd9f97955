"""What a report is made from: the runs below some paths, with their states, scores and layout, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from dinodiet.errors import UserError
from dinodiet.results.budgets import picked
from dinodiet.results.runs import Found, Run, read
from dinodiet.results.summary import cells_of
from dinodiet.results.table import Layout, default_metric
from dinodiet.results.tidy import Where, differing, select
from dinodiet.results.unfinished import unfinished
from dinodiet.store.grid import read_jobs
from dinodiet.store.queue import active_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import CellState, CellStatus, state_of, states


@dataclass(frozen=True)
class Scores:
    """The cells of a table, its layout, and what should be known about it; see `summary.cells_of`."""

    cells: pd.DataFrame
    plan: Layout
    notes: Sequence[str]


@dataclass(frozen=True)
class Study:
    """Runs with their states.

    Attributes:
        title: the names of the studies.
        found: what was read.
        where: which runs are shown, as `select` has it.
        metrics: what the scores are shown of; none: the default.
    """

    title: str
    found: Found
    where: Where = field(default_factory=dict)
    metrics: Sequence[str] = ()

    @cached_property
    def done(self) -> list[Run]:
        """The finished runs that are shown, on all labels."""
        return select(picked(self.found.runs, []), self.where)

    @cached_property
    def runs(self) -> list[Run]:
        """All runs that have a directory: the finished ones, then those that have begun."""
        begun = unfinished(self.found.unfinished)
        silent = {run.path for run in begun}
        rest = [run for run in self.found.unfinished if run.path not in silent]
        return select([*self.done, *begun], self.where) + ([] if self.where else rest)

    @cached_property
    def states(self) -> dict[Path, CellStatus]:
        """The state of each run, and of each cell that has none yet, by its directory."""
        told: dict[Path, CellStatus] = {}
        for study in self.found.studies:
            active = active_jobs() if read_jobs(study) else None
            told |= {cell.directory: cell for cell in states(study, active=active)}
        alone = [run for run in self.runs if run.path not in told]
        told |= {run.path: state_of(RunDir(run.path)) for run in alone}
        broken = [(file.parent, reason) for reason, files in self.found.problems.items() for file in files]
        return told | {path: _unreadable(path, reason) for path, reason in broken}

    @cached_property
    def metric(self) -> str | None:
        """The metric that is shown first; None: no finished run has a score."""
        try:
            return [*self.metrics, default_metric(self.done)][0]
        except UserError:
            return None

    @cached_property
    def scores(self) -> Scores | None:
        """The cells of the main table; None where no finished run has a score."""
        if self.metric is None or not self.done:
            return None
        return Scores(*cells_of(self.found, self.where, metrics=self.metrics))

    @cached_property
    def differing(self) -> list[str]:
        """The choices and settings in which finished runs differ."""
        return differing([run.record for run in self.done]) if self.done else []


def _unreadable(path: Path, reason: str) -> CellStatus:
    return CellStatus(path.name, CellState.FAILED, path.parent, reason=f"its results cannot be read: {reason}")


def read_study(paths: Sequence[Path], where: Where | None = None, metrics: Sequence[str] = ()) -> Study:
    """Return what lies below some paths.

    Raises:
        UserError: as `runs.read`, `tidy.select` and `table.layout` do.
    """
    found = read(paths)
    names = list(found.studies.values()) or [run.name for run in [*found.runs, *found.unfinished]]
    return Study(", ".join(names), found, where or {}, metrics)
