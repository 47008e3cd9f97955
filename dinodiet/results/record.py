"""A run as a flat record: what it is, its scores and what it cost, by name; what is no science is left out."""

from __future__ import annotations

import functools
import itertools
import json
import marshal
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Any

from dinodiet.config.groups import NOT_SCIENCE, SCORED, STUDENT
from dinodiet.config.schedule_short import short_text
from dinodiet.errors import printable
from dinodiet.io.files import LARGEST, is_interval, is_number
from dinodiet.results.cache import Record, Scalar
from dinodiet.store.scores import BUDGET_KINDS, FORMAT
from dinodiet.store.spent import spent_in

COSTS = {  # what a run cost, and which direction is an improvement
    **dict.fromkeys(("steps", "train_seconds", "device_hours", "energy_kwh"), "lower"),
    "images_per_second": "higher",
    **dict.fromkeys(("peak_memory_mb", "parameters", "trainable_parameters", "embed_dim"), "lower"),
}
# how keys of a record begin that are no choices
LABELS = "labels/"  # of scores on a budget of labels: labels/<kind>=<amount>/<rule>/<seed>/<key of a record>
LABEL_COLUMNS = ("labels_per_class", "label_fraction", "label_seed")  # of runs on budgets of labels
MACHINE = "machine/"  # device and number of processes that a run was trained with
CODE_BEFORE = f"{MACHINE}code_before"  # digests of other code that took steps of it, before that which finished it
NO_CHOICE = ("initial/", "final/", "low/", "high/", "setting/", "better/", "skipped/", "refused/", MACHINE, LABELS)


MOST_PARTS = 20_000  # flattened parts of configurations that are remembered
UNTOLD = {"device", *SCORED}  # of a configuration: evaluators follow the run's device; scores say their own


class OtherFormatError(ValueError):
    """Results written by another version."""


def parse(results: dict[str, Any], run_id: str) -> Record:
    """Return the content of a results.json as a flat record.

    Raises:
        OtherFormatError: it was written by another version.
        KeyError, TypeError, AttributeError: something is not as it should be.
    """
    if (written := results["format"]) != FORMAT:
        age = "an older" if isinstance(written, int) and written < FORMAT else "a newer"
        raise OtherFormatError(f"written by {age} version (format {written}; this one reads {FORMAT})")
    record = identity(run_id, results["choices"], results["seed"], results["config"])
    if not is_number(record["seed"]):
        raise TypeError("seed is no number")
    for phase in ("initial", "final"):
        record |= _scores(f"{phase}/", results[phase])
        record |= _scores(f"{phase}/val/", results["validation"][phase])
        record |= _intervals(phase, results.get("intervals", {}).get(phase, {}))  # results before they were known
    record |= _scores("setting/", results["settings"]["final"])
    record |= {f"better/{name}": str(direction) for name, direction in results["better"].items()}
    record |= _scores("final/", costs_of(results))
    record |= {
        MACHINE + "device": printable(str(results.get("device"))),
        MACHINE + "processes": _scalar(results.get("processes", 1)),
    }
    if codes := results.get("code_before"):
        record[CODE_BEFORE] = printable(", ".join(map(str, codes)))
    record |= {f"skipped/{name}": str(reason) for name, reason in results["skipped"].items()}
    record |= {f"refused/{name}": str(reason) for name, reason in results.get("refused", {}).items()}
    return record | _budgets(results.get("budgets", ()))


def costs_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a run cost, None where it is unknown, by its results."""
    spent = spent_in(results)
    told = (None, None) if spent is None else (spent.device_hours, spent.energy_kwh)
    return {name: results.get(name) for name in COSTS} | dict(zip(("device_hours", "energy_kwh"), told, strict=True))


def identity(run_id: str, choices: Mapping[str, Any], seed: int, config: dict[str, Any]) -> Record:
    """Return what a run is, by column and configuration key."""
    model, dataset = labels(run_id, choices)
    record: Record = {"run": printable(run_id), "model": model, "seed": seed}
    for group, choice in choices.items():
        chosen = choice not in (None, "None")  # the text where the cell of a grid wrote it
        if chosen and group != "model" and not group.startswith(("hydra/", "tracker", "record")):
            record[group] = _scalar(choice)
    return record | {"dataset": dataset} | science(config)


def labels(run_id: str, choices: Mapping[str, Any]) -> tuple[str, str]:
    """Return the model with its size (dinov2-base) and the dataset (folder-lungs) from the name of a run."""
    found = _name_of(str(choices["dataset"]), str(choices["method"])).match(run_id)
    return (found[1], found[2]) if found else (str(choices["model"]), str(choices["dataset"]))


@functools.lru_cache(maxsize=256)
def _name_of(dataset: str, method: str) -> re.Pattern[str]:
    return re.compile(rf"(.+)_({re.escape(dataset)}(?:-[\w.-]+)?)_{re.escape(method)}_seed")


def _scores(prefix: str, scores: dict[str, float | None]) -> Record:
    record: Record = {}
    for name, value in scores.items():
        if value is not None and not (type(value) is float and -LARGEST < value < LARGEST) and not is_number(value):
            raise TypeError(f"{name}: {str(value)[:20]} is no number")
        record[prefix + name] = value
    return record


def _intervals(phase: str, intervals: dict[str, Any]) -> Record:
    record: Record = {}
    for name, ends in intervals.items():
        if not is_interval(ends):
            raise TypeError(f"{name}: {str(ends)[:40]} is no interval")
        record |= {f"low/{phase}/{name}": ends[0], f"high/{phase}/{name}": ends[1]}
    return record


def _budgets(rows: Iterable[Mapping[str, Any]]) -> Record:
    """Return the scores on budgets of labels; see `results.budgets`."""
    record: Record = {}
    for row in rows:
        kind = BUDGET_KINDS[0] if BUDGET_KINDS[0] in row else BUDGET_KINDS[1]
        start, phase = f"{LABELS}{kind}={row[kind]}/{row['rule']}/{row['seed']}/", row["phase"]
        record |= _scores(start, {"images": row["images"], "of": row["of"]})
        record |= _scores(f"{start}{phase}/", row["test"]) | _scores(f"{start}{phase}/val/", row["val"])
        record |= _scores(f"{start}setting/", row["settings"]) if phase == "final" else {}
        told = {what: row.get(what) for what in ("skipped", "refused")}  # rows before scores were refused lack that
        record |= {f"{start}{what}/{row['evaluator']}": str(why) for what, why in told.items() if why is not None}
    return record


def evaluator_of(metric: str) -> str:
    """Return the name of the evaluator in the configuration: knn of val/student/knn(k=10)/accuracy, knn@cifar10/f1."""
    return re.split(r"[/(@]", metric.removeprefix("val/").removeprefix(STUDENT), maxsplit=1)[0]


def keys_of(records: Iterable[Record]) -> dict[str, None]:
    """Return the keys that occur, in order."""
    kinds = dict.fromkeys(tuple(record) for record in records)  # few among thousands of runs
    return dict.fromkeys(itertools.chain.from_iterable(kinds))


def columns_of(records: Sequence[Record]) -> dict[str, list[Scalar]]:
    """Return the values of each key that occurs, None where a record lacks it; keys in the order of `keys_of`."""
    found: dict[str, list[Scalar]] = {key: [] for key in keys_of(records)}
    for keys, part in itertools.groupby(records, tuple):  # neighbours are of one kind, as a rule
        rows = list(zip(*(record.values() for record in part), strict=True))
        count = len(rows[0]) if rows else 0
        columns = dict(zip(keys, rows, strict=True))
        for key, column in found.items():
            column.extend(columns.get(key) or [None] * count)
    return found


def is_choice(key: str) -> bool:
    """Return whether a record's key is a choice or part of the configuration, and no score."""
    return not key.startswith(NO_CHOICE)


def science(config: dict[str, Any]) -> Record:
    """Return the configuration by dotted key, without what does not change the scores; data paths are relative."""
    data_dir = str(config.get("data_dir", "data"))
    flat: Record = {}
    for key, value in config.items():
        if key not in NOT_SCIENCE:
            flat.update(_part(key, value, data_dir + "/"))
    return flat


_parts: dict[bytes, Record] = {}  # by content: runs of a study have most parts of their configurations in common


def _part(key: str, value: Any, data: str) -> Record:
    """Return the values of a part of the configuration by dotted key; paths below `data` are relative."""
    content = marshal.dumps((data, key, value), 2)  # tells 1 from 1.0 and true; nothing reads it
    if (found := _parts.get(content)) is None:
        found = {}
        _flatten({key: value}, "", found)
        for name, leaf in found.items():
            if isinstance(leaf, str) and leaf.startswith(data):
                found[name] = "data/" + leaf[len(data) :]
        if len(_parts) >= MOST_PARTS:
            _parts.clear()
        _parts[content] = found
    return found


def _flatten(node: dict[str, Any], prefix: str, flat: Record) -> None:
    """Add the values of a node by dotted key; a schedule that has a short text is told by that too."""
    for key, value in node.items():
        if isinstance(value, dict):
            told = short_text(value) if "_target_" in value else None
            if told is not None and key not in UNTOLD:
                flat[prefix + key] = told
            _flatten(value, f"{prefix}{key}.", flat)
        elif key not in UNTOLD:
            flat[prefix + key] = value if type(value) in (int, float, bool, NoneType) else _scalar(value)


def _scalar(value: Any) -> Scalar:
    if isinstance(value, str):
        return printable(value)  # a path that is no UTF-8 is neither written nor kept in a column
    return value if value is None or isinstance(value, (int, float, bool)) else json.dumps(value)
