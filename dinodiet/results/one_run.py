"""One run as what can be told of it, whatever its state: data alone; `results.one_run_text` prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinodiet.errors import UserError, printable
from dinodiet.io.files import read_json
from dinodiet.results.curves import VALIDATION, Point, points
from dinodiet.results.record import costs_of
from dinodiet.results.runs import Found, Run, read
from dinodiet.results.score_rows import ScoreRow, score_rows
from dinodiet.results.tidy import differing, text
from dinodiet.results.unfinished import unfinished
from dinodiet.store.grid import read_jobs
from dinodiet.store.queue import active_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import read_scores, summary
from dinodiet.store.spent import KEY
from dinodiet.store.states import CellState, CellStatus, state_of
from dinodiet.store.status import read_status

LAST_LINES = 8  # of a traceback, the end of which says what went wrong


@dataclass(frozen=True)
class OneRun:
    """What can be told of a run.

    Attributes:
        run: what it is, with its configuration; `run.record` has model, dataset, method and seed.
        status: its state, and how far it is.
        settings: configuration keys in which the runs of its study differ, with its values as text.
        others: how many other runs of the study there are to differ from.
        scores: all test scores.
        skipped: evaluators that were left out, with the reason.
        curves: (epoch, value) of the loss and of each validation score, by `loss` and `val/<eval>/<metric>`.
        costs: steps, train_seconds, images_per_second, peak_memory_mb and what else is known, as in results.json;
            of a run without results what it has spent so far: device_hours, energy_kwh.
        codes: digests of the code that finished it, and of other code that took steps of it before.
        error: the last lines of what a run failed with, or why it stopped; empty where it did neither.
    """

    run: Run
    status: CellStatus
    settings: dict[str, str]
    others: int
    scores: list[ScoreRow]
    skipped: dict[str, str]
    curves: dict[str, list[Point]]
    costs: dict[str, float]
    codes: list[str]
    error: list[str]

    @property
    def failed(self) -> bool:
        """Whether it ended before its end, and nothing continues it."""
        return self.status.state in (CellState.FAILED, CellState.STOPPED)


def one_run(path: Path | str) -> OneRun:
    """Read a run directory.

    Raises:
        UserError: it is no run directory, or its results cannot be used.
    """
    run_dir = RunDir(Path(path))
    run, study = _run_of(run_dir), read([run_dir.path.absolute().parent])
    results = read_json(run_dir.results) or {}
    told = results if run.state == CellState.DONE.value else summary(read_scores(run_dir))
    jobs = read_jobs(run.study)
    status = state_of(run_dir, job=jobs.get(run.name), active=active_jobs() if jobs else None)
    others = _others(study, run)
    return OneRun(
        run,
        status,
        distinct(run, others),
        len(others),
        score_rows(told, trained=results.get("steps") != 0),
        {str(name): printable(str(reason)) for name, reason in told["skipped"].items()},
        curves_of(run),
        _costs(run_dir, results),
        [str(code) for code in (results.get("code"), *results.get("code_before", ())) if code],
        error_lines(status),
    )


def _costs(run_dir: RunDir, results: Mapping[str, Any]) -> dict[str, float]:
    """Return what is known of the costs of a run: by its results, else what its status says was spent so far."""
    told = costs_of(results or {KEY: (read_status(run_dir) or {}).get(KEY)})
    return {name: float(value) for name, value in told.items() if value is not None}


def _run_of(run_dir: RunDir) -> Run:
    found = read([run_dir.path])
    for reason in found.problems:
        raise UserError(f"{run_dir.results}: {reason}")
    if len(found.runs) + len(found.unfinished) != 1 or found.studies:
        raise UserError(f"{run_dir.path}: no run directory, which has results.json or status.json")
    begun = unfinished(found.unfinished)
    return (*found.runs, *begun, *found.unfinished)[0]


def _others(study: Found, run: Run) -> list[Run]:
    return [one for one in study.runs if one.name != run.name]


def distinct(run: Run, others: Sequence[Run]) -> dict[str, str]:
    """Return the configuration keys in which a run and the other ones of its study differ, with the run's values.

    Keys that follow from model, dataset, method and seed are left out, as in tables.
    """
    records = [one.record for one in (run, *others)]
    return {key: text(run.record[key]) for key in differing(records) if key in run.record} if others else {}


def curves_of(run: Run) -> dict[str, list[Point]]:
    """Return (epoch, value) of the loss and of each validation score of a run; those without a point are left out."""
    logged = {name for row in RunDir(run.path).read_metrics() for name in row if name.startswith(VALIDATION)}
    ends = [name.partition("/")[2] for name in run.record if name.startswith(("initial/val/", "final/val/"))]
    found = {name: [*points(run, name)] for name in dict.fromkeys(["loss", *ends, *sorted(logged)])}
    return {name: line for name, line in found.items() if line}


def error_lines(status: CellStatus, most: int = LAST_LINES) -> list[str]:
    """Return the last lines of the traceback of a run that ended early, else the reason; no lines of any other run."""
    if status.state not in (CellState.FAILED, CellState.STOPPED):
        return []
    told: Mapping[str, Any] = read_status(RunDir(status.directory)) or {}
    lines = str(told.get("traceback") or status.reason or "").splitlines()
    return [printable(line.expandtabs(4).rstrip()) for line in lines if line.strip()][-most:]
