"""The unfinished cells of a study's newest grid, as runs without scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dinodiet.config.groups import NOT_SCIENCE
from dinodiet.results.cache import Record, Scalar
from dinodiet.results.record import is_choice, keys_of, labels
from dinodiet.results.runs import Found, Run
from dinodiet.results.schedule_keys import put
from dinodiet.results.tidy import is_the_seed
from dinodiet.store.grid import Cell, read_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import CellState, state_of


def planned(found: Found) -> tuple[list[Run], set[tuple[Path, str]]]:
    """Return the unfinished cells of the grids of the studies found, and the studies and names of all cells.

    What an unfinished cell does not say about itself is taken from the finished runs of the same overrides, or of the
    same model, dataset and method.
    """
    done = found.runs
    follows = _following([run.record for run in done])
    waiting: list[Run] = []
    wanted: set[tuple[Path, str]] = set()
    for study, label in found.studies.items():
        cells = found.grid(study)
        finished = {run.name: run.record for run in done if run.study == study}
        wanted |= {(study, cell.run_id) for cell in cells}
        missing = [cell for cell in cells if cell.run_id not in finished]
        jobs = read_jobs(study) if missing else {}
        alike: dict[Any, Record] = {}
        for cell in cells if missing else []:
            if record := finished.get(cell.run_id):
                alike.setdefault(_overrides(cell), record)
                alike.setdefault(_what(cell), record)
        for cell in missing:
            known = alike.get(_overrides(cell)) or alike.get(_what(cell)) or {}
            record = {**_record(cell, known, follows), "study": label}
            waiting.append(Run(study, cell.run_id, record, _state(study, cell.run_id, jobs)))
    return waiting, wanted


def _state(study: Path, run_id: str, jobs: Mapping[str, str]) -> str:
    """Return the state of a cell without usable results."""
    state = state_of(RunDir(study / run_id), job=jobs.get(run_id)).state
    return "unreadable" if state is CellState.DONE else state.value


def _overrides(cell: Cell) -> frozenset[str]:
    return frozenset(override for override in cell.overrides if not override.startswith("seed="))


def _what(cell: Cell) -> tuple[str, str, str]:
    return *labels(cell.run_id, cell.choices), cell.choices["method"]


def _following(records: Sequence[Record]) -> list[str]:
    """Return the settings that are each run's seed (method.targets.seed)."""
    seeds = [record["seed"] for record in records]
    keys = [key for key in keys_of(records) if "." in key and key.endswith("seed")]
    return [key for key in keys if is_the_seed([record.get(key) for record in records], seeds)]


def _record(cell: Cell, known: Record, follows: Sequence[str]) -> Record:
    record: Record = {key: value for key, value in known.items() if is_choice(key)}
    record |= {key: cell.seed for key in follows if record.get(key) is not None}
    for override in cell.overrides:
        key, _, value = override.lstrip("+").partition("=")
        node = value.startswith("{")  # its keys come one by one from a finished run
        if "." in key and not node and key.partition(".")[0] not in (*NOT_SCIENCE, "hydra"):
            put(record, key, _value(value))
    model, dataset, method = _what(cell)
    return record | {"run": cell.run_id, "model": model, "dataset": dataset, "method": method, "seed": cell.seed}


def _value(value: str) -> Scalar:
    """Return the value of an override as the results will give it."""
    try:
        parsed = json.loads(value.lower() if value in ("True", "False", "None", "Null") else value)
    except ValueError:
        return value.strip("'\"")
    return parsed if parsed is None or isinstance(parsed, (str, int, float, bool)) else json.dumps(parsed)
