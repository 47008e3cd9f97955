"""Runs as a tidy frame: one row per run, metric and phase, with a column for every choice that differs."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dinodiet.errors import UserError, printable
from dinodiet.results.budgets import on_budgets
from dinodiet.results.cache import Record
from dinodiet.results.phases import PHASES
from dinodiet.results.record import COSTS, LABEL_COLUMNS, columns_of, is_choice, keys_of
from dinodiet.results.runs import Run, read
from dinodiet.results.schedule_keys import normalized, told_twice

ALWAYS = ("study", "run", "model", "dataset", "method", "seed")
Where = Mapping[str, Any]


def collect(*paths: Path | str | Iterable[Path | str], where: Where | None = None) -> pd.DataFrame:
    """Return all scores of the finished runs below the paths: one row per run, metric and phase.

    A path, several, or a list of them: runs, studies, folders of studies.

    Columns: study, run, model (with its size), dataset, method, seed; every other choice and every configuration key
    (`method.trainable`) that differs and does not follow from the choices already there; metric, phase, value, low,
    high. Metrics are those of the test split; `val/` precedes those of the validation split; costs such as
    train_seconds have the phase `final`. `change` is final - initial, NaN where the two were not measured alike, absent
    of a run of no steps. A value that was not finite is NaN. `low` and `high` are the ends of the 95 % interval of a
    test score; NaN where none is known.

    Where runs have scores on budgets of labels each of those, and each of its draws, has rows of its own: the columns
    labels_per_class, label_fraction and label_seed say which; NaN or None in all of them: all labels.

    `where` keeps runs by column or configuration key: {"method": ["diet", "dino"], "label_smoothing": 0.2}.

    Broken results, and those of another version, are left out with a warning that names them.

    Raises:
        UserError: no such path, or none given; an unknown key in `where`.
    """
    listed = [[path] if isinstance(path, (str, Path)) else path for path in paths]
    found = read(itertools.chain.from_iterable(listed))
    for message in found.messages():
        warnings.warn(message, stacklevel=2)
    return tidy(select(on_budgets(found.runs), where or {}))


def tidy(runs: Sequence[Run], metrics: Iterable[str] | None = None, keys: Iterable[str] | None = None) -> pd.DataFrame:
    """Return the scores of runs as `collect` does: all metrics or the named ones, `keys` or the choices that differ."""
    records = [run.record for run in runs]
    names = metric_names(runs) if metrics is None else list(metrics)
    values = np.full((len(records), len(names), len(PHASES)), np.nan)
    ends = np.full((2, *values.shape), np.nan)
    present = np.zeros(values.shape, dtype=bool)
    refused = np.zeros(values.shape[:2], dtype=bool)
    for i, record in enumerate(records):
        for j, name in enumerate(names):
            for phase in (0, 1):
                key = f"{PHASES[phase]}/{name}"
                if key in record:
                    present[i, j, phase] = True
                    value = record[key]
                    values[i, j, phase] = np.nan if value is None else value
                    if f"low/{key}" in record:
                        ends[:, i, j, phase] = record[f"low/{key}"], record[f"high/{key}"]
            refused[i, j] = is_refused(record, name)  # both sides stay, unsubtracted
    values[:, :, 2] = np.where(refused, np.nan, values[:, :, 1] - values[:, :, 0])
    trained = np.array([not run.is_frozen for run in runs], dtype=bool)
    present[:, :, 2] = present[:, :, 0] & present[:, :, 1] & trained[:, None]
    rows, columns, phases = np.nonzero(present)
    frame: pd.DataFrame = run_frame(runs, keys).take(rows).reset_index(drop=True)
    frame["metric"] = pd.Categorical.from_codes(columns, categories=pd.Index(names))
    frame["phase"] = pd.Categorical.from_codes(phases, categories=pd.Index(PHASES), ordered=True)
    frame["value"] = values[present]
    frame["low"], frame["high"] = ends[0][present], ends[1][present]
    return frame


def is_refused(record: Record, metric: str) -> bool:
    """Return whether a metric of a run before and after its training was not measured alike."""
    return f"refused/{metric.removeprefix('val/').rpartition('/')[0]}" in record


def ends_of(run: Run, metric: str) -> tuple[float | None, float | None, float | None]:
    """Return a metric before and after, and its change; None: not there, or not measured alike."""
    first, last = (run.record.get(f"{phase}/{metric}") for phase in PHASES[:2])
    before, after = (None if end is None else float(end) for end in (first, last))
    if before is None or after is None or run.is_frozen or is_refused(run.record, metric):
        return before, after, None
    return before, after, after - before


def run_frame(runs: Sequence[Run], keys: Iterable[str] | None = None, used: Iterable[str] = ()) -> pd.DataFrame:
    """Return one row per run: the columns always there, and the named keys, or else the choices that differ.

    `used` are the keys that have a place already: a schedule of which one number has is told by its numbers.
    """
    records = [run.record for run in runs]
    budgets = LABEL_COLUMNS if any("label_seed" in record for record in records) else ()
    names = dict.fromkeys([*ALWAYS, *([*budgets, *differing(records, used)] if keys is None else keys)])
    return pd.DataFrame({name: _column(records, name) for name in names})


def differing(records: Sequence[Record], used: Iterable[str] = ()) -> list[str]:
    """Return the choices and configuration keys that differ, without those that follow from others.

    A key follows where it is a function of model, dataset, method and the choices found so far (method.teacher exists
    for DINO alone), or equals the run's seed. Group choices come before configuration keys. Schedules are one key each
    where they have a short text; those with a number among the `used` keys are several.
    """
    columns = columns_of(records)
    keys = [key for key in columns if is_choice(key) and key not in ALWAYS]
    twice = told_twice(keys, records, used)
    keys = [key for key in keys if key not in twice]
    groups = _codes(list(zip(*(columns.get(key, []) for key in ("model", "dataset", "method")), strict=True)))
    seeds = columns.get("seed", [])
    found = []
    for key in sorted(keys, key=lambda key: "." in key):
        column = columns[key]
        if column.count(column[0]) == len(column) or _follows(column, groups) or is_the_seed(column, seeds):
            continue
        found.append(key)
        if "." not in key:
            groups = _codes(list(zip(groups, column, strict=True)))
    return found


def _column(records: Sequence[Record], key: str) -> list[Any]:
    return [record.get(key) for record in records]


def _codes(values: list[Any]) -> list[int]:
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(value, len(numbers)) for value in values]


def is_the_seed(column: Sequence[Any], seeds: Sequence[Any]) -> bool:
    """Return whether a setting is the seed of each run that has it."""
    return all(value is None or value == seed for value, seed in zip(column, seeds, strict=True))


def _follows(column: list[Any], groups: list[int]) -> bool:
    return len(set(zip(groups, column, strict=True))) == len(set(groups))


def metric_names(runs: Sequence[Run]) -> list[str]:
    """Return the metrics of the runs: test, then validation, then costs."""
    keys = keys_of(run.record for run in runs)
    names = [key.removeprefix("final/") for key in keys if key.startswith("final/")]
    return sorted(names, key=lambda name: (name in COSTS) * 2 + name.startswith("val/"))


def select(runs: Sequence[Run], where: Where) -> list[Run]:
    """Return the runs whose choices have one of the wanted values.

    Raises:
        UserError: an unknown key (the valid ones are listed) or a value that no run has.
    """
    kept = list(runs)
    if not kept:
        return []
    for name, wanted in where.items():
        key = resolve(name, runs)
        values = wanted if isinstance(wanted, (list, tuple, set)) else [wanted]
        kept_now = [run for run in kept if matches(run.record.get(key), values)]
        if not kept_now:
            there = sorted({text(run.record.get(key)) for run in kept})
            raise UserError(f"{name}: no run has {', '.join(map(text, values))}; there are: {', '.join(there)}")
        kept = kept_now
    return kept


def resolve(name: str, runs: Sequence[Run]) -> str:
    """Return the column or key that a name means: itself, or the one key that ends with it.

    Raises:
        UserError: there is none, or more than one; the columns are listed.
    """
    if name in ALWAYS:
        return name
    keys = [key for key in keys_of(run.record for run in runs) if is_choice(key)]
    if name in keys:
        return name
    ending = [key for key in keys if key.endswith(f".{name}")]
    if len(ending) == 1:
        return ending[0]
    if ending:
        raise UserError(f"{name}: more than one key ends so; choose from: {', '.join(ending)}")
    columns = [*ALWAYS, *differing([run.record for run in runs])]
    raise UserError(f"{name}: no such column; choose from: {', '.join(columns)}, or any key of the configuration")


def matches(value: Any, wanted: Iterable[Any]) -> bool:
    """Return whether a value is one of those wanted, which may be text from the command line."""
    return any(
        value == one or text(value) in (text(one), text(normalized(one))) or _same_number(value, one) for one in wanted
    )


def _same_number(value: Any, wanted: Any) -> bool:
    try:
        return not isinstance(value, bool) and float(value) == float(wanted)
    except (TypeError, ValueError):
        return False


def text(value: Any) -> str:
    """Return a choice as one writes it on the command line: null, true, 0.2, 10."""
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "null"
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value)).lower()
    if isinstance(value, (int, float, np.number)):
        return f"{value:.10g}"
    return printable(str(value))
