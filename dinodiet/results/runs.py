"""Runs read from disk: each once, with its record, or the reason why it has none."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dinodiet.io.files import parse_json
from dinodiet.results.cache import Cache, Entry, Record
from dinodiet.results.locate import locate, study_labels
from dinodiet.results.marks import mark_of
from dinodiet.results.record import COSTS, OtherFormatError, parse
from dinodiet.store.grid import Cell, read_grid
from dinodiet.store.rundir import RunDir

Place = tuple[int, int]  # device and inode of results


@dataclass(frozen=True)
class Run:
    """A run, as a rule a finished one.

    Attributes:
        study: the folder that holds the run directory.
        name: the name of the run directory.
        record: study, model, dataset, method, seed and other group choices by name; the configuration by dotted key;
            scores as `initial/<metric>` and `final/<metric>`, those on validation with `val/` before the metric;
            `low/final/<metric>` and `high/...`: the ends of a test score's interval;
            `better/<metric>`: higher, lower or none; `setting/<eval>/<name>`: what a score was measured with;
            `skipped/<eval>` with the reason; `machine/device` and `machine/processes`: what it was trained with;
            `machine/code_before`: digests of code that began it, where other code finished it.
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

    @property
    def is_frozen(self) -> bool:
        """Whether the run took no step, so that its final scores are its initial ones."""
        return self.record.get("final/steps") == 0


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
    _grids: dict[Path, list[Cell]] = field(default_factory=dict)

    def grid(self, study: Path) -> list[Cell]:
        """Return the cells of a study's newest grid."""
        if study not in self._grids:
            self._grids[study] = read_grid(study)
        return self._grids[study]

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
        mark = mark_of(stat)
        record = cache.get(name, mark)
        if record is None:
            try:
                record = parse(parse_json(_content(f"{study}/{name}/results.json")), name)
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                found.problems.setdefault(_reason(error), []).append(RunDir(study / name).results)
                continue
            cache.put(name, Entry(mark, record))
        found.runs.append(Run(study, name, {"study": label, **record}))


def _content(path: str) -> bytes:
    """Return what is in a file, without the objects that a stream is made of: there may be ten thousand."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(handle, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(handle)


def _reason(error: Exception) -> str:
    if isinstance(error, OtherFormatError):
        return str(error)
    if isinstance(error, KeyError):
        return f"no {error} in it; run the same command again"
    return f"broken or half-written ({error}); run the same command again"


def lower_is_better(metric: str, runs: Iterable[Run]) -> bool:
    """Return whether the best value of a metric is its smallest: as its evaluator says, and of most costs."""
    name = metric.removeprefix("val/")
    if name in COSTS:
        return COSTS[name] == "lower"
    return any(run.record.get(f"better/{name}") == "lower" for run in runs)


def has_no_best(metric: str, runs: Iterable[Run]) -> bool:
    """Return whether neither direction of a metric is better by itself, as its evaluator says."""
    return any(run.record.get(f"better/{metric.removeprefix('val/')}") == "none" for run in runs)
