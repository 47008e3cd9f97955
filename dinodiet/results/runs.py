"""Runs as flat records: found on disk, checked, and with everything but science left out."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinodiet.config.groups import NOT_SCIENCE
from dinodiet.errors import UserError, printable
from dinodiet.io.files import is_number, parse_json
from dinodiet.results.cache import Cache, Entry, Record, Scalar
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import FORMAT

COSTS = {  # what a run cost, and which direction is an improvement
    **dict.fromkeys(("steps", "train_seconds"), "lower"),
    "images_per_second": "higher",
    **dict.fromkeys(("peak_memory_mb", "parameters", "trainable_parameters", "embed_dim"), "lower"),
}
NO_CHOICE = ("initial/", "final/", "setting/", "better/", "skipped/")  # how keys of a record begin that are no choices
Place = tuple[int, int]  # device and inode of results
DEEPEST = 4  # folders below a path in which runs are looked for


@dataclass(frozen=True)
class Run:
    """A run, as a rule a finished one.

    Attributes:
        study: the folder that holds the run directory.
        name: the name of the run directory.
        record: study, model, dataset, method, seed and other group choices by name; the configuration by dotted key;
            scores as `initial/<metric>` and `final/<metric>`, those on validation with `val/` before the metric;
            `better/<metric>`: higher or lower; `setting/<eval>/<name>`: what a score was measured with;
            `skipped/<eval>` with the reason.
        state: `done`, or the state of a run without results; see `dinodiet.store.states.CellState`.
    """

    study: Path
    name: str
    record: Record
    state: str = "done"

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.study / self.name


@dataclass
class Found:
    """What lies below some paths.

    Attributes:
        runs: the finished runs.
        unfinished: run directories without results; their records say study and name alone.
        studies: the studies that were read whole, with their names.
        problems: results that cannot be used: reason -> files.
    """

    runs: list[Run] = field(default_factory=list)
    unfinished: list[Run] = field(default_factory=list)
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

    A run to which links lead counts once, by the name of its folder where that is among the paths.

    Raises:
        UserError: a path does not exist, or nothing below it is a run or a study.
    """
    whole, single = locate(paths)
    labels = study_labels([*whole, *single])
    found = Found(studies={study: labels[study] for study in whole})
    seen: set[Place] = set()
    for study, names in whole.items():
        cache = Cache(study)
        _read_runs(study, labels[study], names, cache, found, seen)
        cache.save()
    for study, names in single.items():
        if study not in whole:
            _read_runs(study, labels[study], names, Cache(study), found, seen)
    return found


def locate(paths: Iterable[Path | str], *, links: bool = True) -> tuple[dict[Path, list[str]], dict[Path, list[str]]]:
    """Return the run directories of the studies below the paths, and those that are paths themselves, by study.

    With `links`, those that links lead to are among them.

    Raises:
        UserError: as `read`.
    """
    whole: dict[Path, list[str]] = {}
    single: dict[Path, list[str]] = {}
    for path in dict.fromkeys(Path(path) for path in paths):
        if not path.is_dir():
            raise UserError(f"{path}: no such folder")
        if _is_run(str(path)):
            single.setdefault(path.parent, []).append(path.name)
        elif below := dict(walk(path, links=links)):
            whole |= below
        else:
            raise UserError(
                f"{path}: no runs there; give a study (outputs/<name>), a run directory or a folder of them"
            )
    if not whole and not single:
        raise UserError("paths: none given; give a study (outputs/<name>), a run directory or a folder of them")
    return whole, single


def study_labels(studies: Iterable[Path]) -> dict[Path, str]:
    """Return the names of studies: the folder's, or the whole path where two folders have one name."""
    places = {study: study.resolve() for study in studies}
    names = {study: printable(place.name) for study, place in places.items()}
    taken = Counter(printable(place.name) for place in set(places.values()))
    return {study: name if taken[name] == 1 else printable(str(study)) for study, name in names.items()}


def walk(path: Path, depth: int = DEEPEST, *, links: bool = True) -> Iterator[tuple[Path, list[str]]]:
    """Yield the studies below a folder, itself included, with the names of their run directories; see `locate`.

    Links come after folders.
    """
    runs: list[tuple[bool, str]] = []
    others: list[tuple[bool, str]] = []
    with os.scandir(path) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=links):
                (runs if _is_run(entry.path) else others).append((entry.is_symlink(), entry.name))
    if runs or (path / ".sweep" / "grid.json").exists():
        yield path, [name for _, name in sorted(runs)]
    if depth:
        for _, name in sorted(others):
            yield from walk(path / name, depth - 1, links=links)


def _is_run(path: str) -> bool:
    return any(os.path.exists(f"{path}/{name}") for name in ("results.json", "status.json"))  # noqa: PTH110 - speed


def _is_first(place: os.stat_result, seen: set[Place]) -> bool:
    """Return whether nothing was read yet that lies at a place, and note it."""
    before = len(seen)
    seen.add((place.st_dev, place.st_ino))
    return len(seen) > before


def _read_runs(study: Path, label: str, names: list[str], cache: Cache, found: Found, seen: set[Place]) -> None:
    for name in names:
        try:
            stat = os.stat(f"{study}/{name}/results.json")  # noqa: PTH116 - speed
            if not _is_first(stat, seen):
                continue
        except OSError:
            if not _is_first((study / name).stat(), seen):
                continue
            found.unfinished.append(Run(study, name, {"study": label, "run": name}, "missing"))
            continue
        record = cache.get(name, stat.st_mtime_ns, stat.st_size)
        if record is None:
            try:
                record = parse(parse_json(RunDir(study / name).results.read_bytes()), name)
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
    if (written := results["format"]) != FORMAT:
        age = "an older" if isinstance(written, int) and written < FORMAT else "a newer"
        raise OtherFormatError(f"written by {age} version (format {written}; this one reads {FORMAT})")
    record = identity(run_id, results["choices"], results["seed"], results["config"])
    if not is_number(record["seed"]):
        raise TypeError("seed is no number")
    for phase in ("initial", "final"):
        record |= _scores(f"{phase}/", results[phase])
        record |= _scores(f"{phase}/val/", results["validation"][phase])
    record |= _scores("setting/", results["settings"]["final"])
    record |= {f"better/{name}": str(direction) for name, direction in results["better"].items()}
    record |= _scores("final/", {name: results.get(name) for name in COSTS})
    record |= {f"skipped/{name}": str(reason) for name, reason in results["skipped"].items()}
    return record


def identity(run_id: str, choices: Mapping[str, Any], seed: int, config: dict[str, Any]) -> Record:
    """Return what a run is, by column and configuration key."""
    model, dataset = labels(run_id, choices)
    record: Record = {"run": printable(run_id), "model": model, "seed": seed}
    for group, choice in choices.items():
        chosen = choice not in (None, "None")  # the text where the cell of a grid wrote it
        if chosen and group != "model" and not group.startswith(("hydra/", "tracker")):
            record[group] = _scalar(choice)
    return record | {"dataset": dataset} | science(config)


def labels(run_id: str, choices: Mapping[str, Any]) -> tuple[str, str]:
    """Return the model with its size (dinov2-base) and the dataset (folder-lungs) from the name of a run."""
    dataset, method = (re.escape(str(choices[group])) for group in ("dataset", "method"))
    found = re.match(rf"(.+)_({dataset}(?:-[\w.-]+)?)_{method}_seed", run_id)
    return (found[1], found[2]) if found else (str(choices["model"]), str(choices["dataset"]))


def _scores(prefix: str, scores: dict[str, float | None]) -> Record:
    for name, value in scores.items():
        if value is not None and not is_number(value):
            raise TypeError(f"{name}: {str(value)[:20]} is no number")
    return {prefix + name: value for name, value in scores.items()}


def lower_is_better(metric: str, runs: Iterable[Run]) -> bool:
    """Return whether the best value of a metric is its smallest: as its evaluator says, and of most costs."""
    name = metric.removeprefix("val/")
    if name in COSTS:
        return COSTS[name] == "lower"
    return any(run.record.get(f"better/{name}") == "lower" for run in runs)


def evaluator_of(metric: str) -> str:
    """Return the name of the evaluator in the configuration: knn of val/knn(k=10)/accuracy and of knn@cifar10/f1."""
    return re.split(r"[/(@]", metric.removeprefix("val/"), maxsplit=1)[0]


def keys_of(records: Iterable[Record]) -> dict[str, None]:
    """Return the keys that occur, in order."""
    kinds = dict.fromkeys(tuple(record) for record in records)  # few among thousands of runs
    return dict.fromkeys(itertools.chain.from_iterable(kinds))


def is_choice(key: str) -> bool:
    """Return whether a record's key is a choice or part of the configuration, and no score."""
    return not key.startswith(NO_CHOICE)


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
    if isinstance(value, str):
        return printable(value)  # a path that is no UTF-8 is neither written nor kept in a column
    return value if value is None or isinstance(value, (int, float, bool)) else json.dumps(value)
