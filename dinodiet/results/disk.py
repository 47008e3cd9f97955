"""What lies on disk of a study, and what of it can go: `--disk` shows it, `--clean` takes what can be had again.

Results, scores, weights, configurations and logs stay, and so does all that belongs to a run that is running. A file
goes by the name that dinodiet gives it, where it puts it; links are never followed, so that nothing elsewhere goes.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinodiet.errors import UserError
from dinodiet.io.files import read_json
from dinodiet.io.units import byte_size
from dinodiet.results.leftovers import (
    CACHES,
    UNFINISHED_FILE,
    files_below,
    in_use,
    is_abandoned,
    is_cached,
    is_lock,
    size_of,
)
from dinodiet.results.locate import locate, walk
from dinodiet.results.render import aligned
from dinodiet.results.unfinished import read_config
from dinodiet.store.grid import read_jobs
from dinodiet.store.queue import active_jobs
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import FORMAT
from dinodiet.store.states import IN_WORK, CellState, state_of, states


@dataclass(frozen=True)
class Item:
    """A file: what it is, its bytes, and whether `--clean` takes it."""

    path: Path
    kind: str
    size: int
    taken: bool = False


@dataclass
class Place:
    """A study, or a cache that studies share.

    Attributes:
        path: its folder.
        items: all files below it.
        kept: why `--clean` takes less of it than it might.
    """

    path: Path
    items: list[Item] = field(default_factory=list)
    kept: str | None = None


def disk(paths: Iterable[Path | str], *, clean: bool = False, yes: bool = False) -> None:
    """Print what lies where; then, if asked to clean, remove what can be had again, once the user agrees.

    Raises:
        UserError: no such path; nobody can be asked and `yes` is false.
    """
    places = inventory(paths)
    print("\n".join(overview(places)))
    taken = [item for place in places for item in place.items if item.taken]
    if not clean:
        return
    if not taken:
        print("nothing to clean")
    elif yes or _agreed(taken):
        removed = remove(places)
        print(f"removed {_number(len(removed), 'file')}, {byte_size(sum(item.size for item in removed))}")
    else:
        print("nothing is removed")


def _agreed(taken: Sequence[Item]) -> bool:
    if not sys.stdin.isatty():
        raise UserError("clean: nothing is removed, as nobody can be asked here; add --yes")
    question = f"remove {_number(len(taken), 'file')}, {byte_size(sum(item.size for item in taken))}? [y/N] "
    return input(question).strip().lower() in ("y", "yes")


def inventory(paths: Iterable[Path | str]) -> list[Place]:
    """Return the studies below the paths, the run directories named alone, and the caches of the studies.

    Raises:
        UserError: a path does not exist, or nothing below it is a run or a study.
    """
    real = [Path(path).resolve() if Path(path).is_symlink() else path for path in paths]
    whole, single = locate(real, links=False)
    found = [_study(study, names) for study, names in whole.items()]
    found += [_runs(study, names) for study, names in single.items() if study not in whole]
    caches: dict[Path, set[Path]] = {}
    for study, names in whole.items():
        for cache, outputs in _caches_of(study, names):
            caches.setdefault(cache, set()).add(outputs)
    return [*found, *(_cache(cache, outputs) for cache, outputs in sorted(caches.items()))]


def _study(study: Path, names: Sequence[str]) -> Place:
    place = _runs(study, names)
    for name in sorted(os.listdir(study)):  # noqa: PTH208 - a study may hold ten thousand
        if name not in {*names} and (path := study / name).name != ".cache":
            if path.is_dir() and not path.is_symlink() and any(walk(path, links=False)):
                continue  # a study of its own
            files = files_below(path)
            place.items += [
                Item(file, _kind_in_study(file, study), size_of(file), is_abandoned(file)) for file in files
            ]
    return place


def _kind_in_study(file: Path, study: Path) -> str:
    """Return the kind of a file that is in no run directory."""
    if UNFINISHED_FILE.fullmatch(file.name):
        return "unfinished files"
    if study / ".sweep" in file.parents:
        return "logs" if "jobs" in file.parts else "records of the sweep"
    return "embedded images" if study / "embeddings" in file.parents else "other"


def _runs(study: Path, names: Sequence[str]) -> Place:
    place, busy = Place(study), 0
    jobs = read_jobs(study)
    active = active_jobs() if jobs else None
    for name in names:
        run_dir = RunDir(study / name)
        state = state_of(run_dir, job=jobs.get(name), active=active).state
        busy += state in IN_WORK
        place.items += _run(run_dir, state)
    place.kept = f"{_number(busy, 'run')} at work or queued, left alone" if busy else None
    return place


def _run(run_dir: RunDir, state: CellState) -> Iterator[Item]:
    kinds = _kinds(run_dir, state)
    for file in files_below(run_dir.path):
        top = run_dir.path.joinpath(*file.relative_to(run_dir.path).parts[:1])
        kind = "unfinished files" if UNFINISHED_FILE.fullmatch(file.name) else kinds.get(top, "other")
        is_own = file == top and kind in ("locks", "checkpoints of finished runs")
        spare = (is_own and (kind != "locks" or is_lock(file))) or is_abandoned(file)
        yield Item(file, kind, size_of(file), spare and state not in IN_WORK)


def _kinds(run_dir: RunDir, state: CellState) -> Mapping[Path, str]:
    """Return the kinds of what lies in a run directory. The last holder of a run's weights is never a leftover."""
    spare = state is CellState.DONE and run_dir.weights.exists() and _is_ours(run_dir)
    checkpoints = "checkpoints of finished runs" if spare else "checkpoints of unfinished runs"
    records = (run_dir.results, run_dir.scores, run_dir.config, run_dir.status, run_dir.splits, run_dir.dataset)
    return {
        **dict.fromkeys((run_dir.weights, run_dir.encoder), "weights"),
        **dict.fromkeys((run_dir.checkpoint, run_dir.previous_checkpoint), checkpoints),
        run_dir.exports: "exports",
        run_dir.path / "wandb": "W&B",
        run_dir.records: "records",
        **dict.fromkeys((run_dir.log, run_dir.metrics), "logs"),
        **dict.fromkeys(records, "results"),
        run_dir.lock: "locks",
    }


def _is_ours(run_dir: RunDir) -> bool:
    """Return whether the results that lie beside a checkpoint are those of a run; other programs have such files."""
    there = run_dir.checkpoint.exists() or run_dir.previous_checkpoint.exists()
    return there and (read_json(run_dir.results) or {}).get("format") == FORMAT


def _caches_of(study: Path, names: Sequence[str]) -> Iterator[tuple[Path, Path]]:
    """Yield the caches of a study, each with the outputs folder of the runs that use it."""
    for folder in [*study.parents][:4]:
        if (folder / ".cache").is_dir():
            yield folder / ".cache", folder
            break
    for name in {*names[:1], *names[-1:]}:  # reading the configurations of all takes long
        config: dict[str, Any] = read_config(RunDir(study / name).config) or {}
        cache = config.get("cache_dir")
        if isinstance(cache, str) and Path(cache).expanduser().is_dir():
            yield Path(cache).expanduser(), study.parent


def _cache(cache: Path, outputs: Iterable[Path]) -> Place:
    place = Place(cache)
    using = [study for folder in outputs for study, _ in walk(folder) if _works(study)]  # by links too
    if using:
        place.kept = f"runs in {', '.join(sorted(map(str, using)))} may use it"
    elif any(in_use(cache / name) for name in CACHES):
        place.kept = "a process writes to it"
    for name in CACHES:
        for file in files_below(cache / name):
            spare = is_cached(file, cache / name) or is_abandoned(file)
            place.items.append(Item(file, name, size_of(file), place.kept is None and spare))
    return place


def _works(study: Path) -> bool:
    active = active_jobs() if read_jobs(study) else None
    return any(cell.state in IN_WORK for cell in states(study, active=active))


def overview(places: Sequence[Place]) -> list[str]:
    """Return what lies where: a block a place, a line a kind, the largest first, and a total."""
    rows: list[list[str]] = []
    titles: list[tuple[int, str]] = []
    for place in places:
        titles.append((len(rows), f"{place.path}" + (f": {place.kept}" if place.kept else "")))
        kinds: dict[str, list[Item]] = {}
        for item in place.items:
            kinds.setdefault(item.kind, []).append(item)
        for kind, items in sorted(kinds.items(), key=lambda kind: -sum(item.size for item in kind[1])):
            rows.append(_row(kind, items))
    everything = [item for place in places for item in place.items]
    lines = [f"  {line}" for line in aligned([*rows, _row("total", everything)])]
    for number, title in reversed(titles):
        lines.insert(number, title)
    return lines


def _row(kind: str, items: Sequence[Item]) -> list[str]:
    taken = sum(item.size for item in items if item.taken)
    whole = sum(item.size for item in items)
    some = any(item.taken for item in items)
    told = f"--clean takes {'all' if taken == whole else byte_size(taken)}" if some else ""
    return [kind, _number(len(items), "file"), byte_size(whole), told]


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def remove(places: Iterable[Place]) -> list[Item]:
    """Remove what `--clean` takes, unless somebody has begun to work there; return what was removed."""
    removed = []
    for place in places:
        folders: dict[Path, list[Item]] = {}
        for item in place.items:
            if item.taken:
                folders.setdefault(place.path / item.path.relative_to(place.path).parts[0], []).append(item)
        for folder, items in folders.items():
            if not in_use(folder):
                removed += items
                for item in items:
                    item.path.unlink(missing_ok=True)
                if folder.name in CACHES:
                    _remove_empty({item.path.parent for item in items} | {folder})
    return removed


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders that are empty, those inside others first."""
    for folder in sorted(folders, reverse=True):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
