"""Finished runs as flat records: found on disk, checked, and with everything but science left out."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinodiet.config.groups import NOT_SCIENCE
from dinodiet.errors import UserError
from dinodiet.results.cache import Cache, Entry, Record, Scalar
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import SETTINGS

READS = 1  # the `format` of results.json that is understood here
COSTS = (
    *("steps", "train_seconds", "images_per_second", "peak_memory_mb"),
    *("parameters", "trainable_parameters", "embed_dim"),
)
DEEPEST = 4  # folders below a path in which runs are looked for


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        study: the folder that holds the run directory.
        name: the name of the run directory.
        record: study, model, dataset, method, seed and other group choices by name; the configuration by dotted key;
            scores as `initial/<metric>` and `final/<metric>`, those on validation with `val/` before the metric;
            `skipped/<eval>` with the reason.
    """

    study: Path
    name: str
    record: Record

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.study / self.name


@dataclass
class Found:
    """What lies below some paths.

    Attributes:
        runs: the finished runs.
        studies: the studies that were read whole, with their names.
        problems: results that cannot be used: reason -> files.
    """

    runs: list[Run] = field(default_factory=list)
    studies: dict[Path, str] = field(default_factory=dict)
    problems: dict[str, list[Path]] = field(default_factory=dict)

    def messages(self, most: int = 10) -> list[str]:
        """Return one line for each reason, naming at most so many runs."""
        return [f"left out: {named(paths, most)}: {reason}" for reason, paths in self.problems.items()]


def named(paths: Iterable[Path], most: int = 10) -> str:
    """Return paths as text, with a count where there are too many to name."""
    texts = [str(path) for path in paths]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def read(paths: Iterable[Path | str]) -> Found:
    """Read all finished runs below the paths: run directories, studies, or folders of studies.

    Raises:
        UserError: a path does not exist, or nothing below it is a run or a study.
    """
    whole: dict[Path, list[str]] = {}
    single: dict[Path, list[str]] = {}
    for path in dict.fromkeys(Path(path) for path in paths):
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        if _is_run(str(path)):
            single.setdefault(path.parent, []).append(path.name)
        elif below := dict(_walk(path, DEEPEST)):
            whole |= below
        else:
            raise UserError(
                f"{path}: no runs there; give a study (outputs/<name>), a run directory or a folder of them"
            )
    labels = study_labels([*whole, *single])
    found = Found(studies={study: labels[study] for study in whole})
    for study, names in whole.items():
        cache = Cache(study)
        _read_runs(study, labels[study], names, cache, found)
        cache.save()
    for study, names in single.items():
        if study not in whole:
            _read_runs(study, labels[study], names, Cache(study), found)
    return found


def study_labels(studies: Iterable[Path]) -> dict[Path, str]:
    """Return the names of studies: the folder's, or the whole path where two folders have one name."""
    names = {study: study.resolve().name for study in studies}
    taken = Counter(names.values())
    return {study: name if taken[name] == 1 else str(study) for study, name in names.items()}


def _walk(path: Path, depth: int) -> Iterator[tuple[Path, list[str]]]:
    runs: list[str] = []
    others: list[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir():
                (runs if _is_run(entry.path) else others).append(entry.name)
    if runs or (path / ".sweep" / "grid.json").exists():
        yield path, sorted(runs)
    if depth:
        for name in sorted(others):
            yield from _walk(path / name, depth - 1)


def _is_run(path: str) -> bool:
    return any(os.path.exists(f"{path}/{name}") for name in ("results.json", "status.json"))  # noqa: PTH110 - speed


def _read_runs(study: Path, label: str, names: list[str], cache: Cache, found: Found) -> None:
    for name in names:
        try:
            stat = os.stat(f"{study}/{name}/results.json")  # noqa: PTH116 - speed
        except OSError:
            continue  # not finished
        record = cache.get(name, stat.st_mtime_ns, stat.st_size)
        if record is None:
            try:
                record = parse(json.loads(RunDir(study / name).results.read_bytes()), name)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                found.problems.setdefault(_reason(error), []).append(RunDir(study / name).results)
                continue
            cache.put(name, Entry(stat.st_mtime_ns, stat.st_size, record))
        found.runs.append(Run(study, name, {"study": label, **record}))


class OtherFormatError(ValueError):
    """Results written by another version."""


def _reason(error: Exception) -> str:
    if isinstance(error, OtherFormatError):
        return str(error)
    if isinstance(error, KeyError):
        return f"no {error} in it; run the same command again"
    return f"broken or half-written ({error}); run the same command again"


def parse(results: dict[str, Any], run_id: str) -> Record:
    """Return the content of a results.json as a flat record.

    Raises:
        OtherFormatError: it was written by another version.
        KeyError, TypeError, AttributeError: something is not as it should be.
    """
    if (written := results["format"]) != READS:
        age = "an older" if isinstance(written, int) and written < READS else "a newer"
        raise OtherFormatError(f"written by {age} version (format {written}; this one reads {READS})")
    choices, config = results["choices"], results["config"]
    record: Record = {"run": run_id, "model": model_label(run_id, choices), "seed": results["seed"]}
    for group, choice in choices.items():
        if group != "model" and not group.startswith(("hydra/", "tracker")):
            record[group] = _scalar(choice)
    record |= science(config)
    for phase in ("initial", "final"):
        record |= _scores(f"{phase}/", results[phase])
        record |= _scores(f"{phase}/val/", results["validation"][phase])
    record |= {f"final/{name}": results.get(name) for name in COSTS}
    record |= {f"skipped/{name}": reason for name, reason in results["skipped"].items()}
    return record


def model_label(run_id: str, choices: dict[str, Any]) -> str:
    """Return the model with its size (dinov2-base), as the run's name begins."""
    label, found, _ = run_id.rpartition(f"_{choices['dataset']}_{choices['method']}_seed")
    return label if found else str(choices["model"])


def _scores(prefix: str, scores: dict[str, float | None]) -> Record:
    return {prefix + name: value for name, value in scores.items()}


def is_setting(metric: str) -> bool:
    """Return whether this is a setting that stands beside the scores (knn/k)."""
    return metric.rpartition("/")[2] in SETTINGS


def keys_of(records: Iterable[Record]) -> dict[str, None]:
    """Return the keys that occur, in order."""
    kinds = dict.fromkeys(tuple(record) for record in records)  # few among thousands of runs
    return dict.fromkeys(itertools.chain.from_iterable(kinds))


def is_choice(key: str) -> bool:
    """Return whether a record's key is a choice or part of the configuration, and no score."""
    return not key.startswith(("initial/", "final/", "skipped/"))


def science(config: dict[str, Any]) -> Record:
    """Return the configuration by dotted key, without what does not change the scores; data paths are relative."""
    data_dir = str(config.get("data_dir", "data"))
    flat: Record = {}
    for key, value in _flatten({key: value for key, value in config.items() if key not in NOT_SCIENCE}, ""):
        if key.rpartition(".")[2] != "device":  # evaluators follow the run's
            inside = isinstance(value, str) and value.startswith(data_dir + "/")
            flat[key] = "data" + str(value)[len(data_dir) :] if inside else value
    return flat


def _flatten(node: dict[str, Any], prefix: str) -> Iterator[tuple[str, Scalar]]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, _scalar(value)


def _scalar(value: Any) -> Scalar:
    return value if value is None or isinstance(value, (str, int, float, bool)) else json.dumps(value)
