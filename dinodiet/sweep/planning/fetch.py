"""mode=fetch: have the weights and data of a run or a whole grid on disk, before it goes where there is no network.

Nothing is built and nothing of a run is written. Each file is fetched once, whatever the number of runs that need it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from dinodiet.config.build import declared
from dinodiet.config.groups import NODES
from dinodiet.config.settings import Settings
from dinodiet.errors import UserError, one_line
from dinodiet.io.assets import ASSETS, Asset
from dinodiet.io.units import byte_size
from dinodiet.run.trained import place_of, read_stored
from dinodiet.sweep.task import Task

EXPECTED = ("model", "dataset")  # groups whose parts should say what they need
COUNTED = 20_000  # files of a folder whose sizes are added up


@dataclass(frozen=True)
class Need:
    """Something that runs need: for which choice of which group, and what, or why that is not known.

    `rebuilt_by` returns the run that does without it where it cannot be had; None: there is none.
    """

    choice: str
    what: Asset | UserError
    rebuilt_by: Callable[[], Path | None] = lambda: None


def fetch(tasks: Sequence[Task]) -> None:
    """Fetch what the runs need, and print a line for each thing and a summary.

    Raises:
        UserError: something could not be fetched; the others were, and every failure has its line.
    """
    wanted = list(needs_of(tasks))
    print(f"{len(tasks)} {'run needs' if len(tasks) == 1 else 'runs need'}:", flush=True)
    width = max((len(need.choice) for need in wanted), default=0)
    states = Counter[str]()
    failures = []
    for need in wanted:
        try:
            state, line = have(need)
        except UserError as error:
            state, line = _without(need, error)
            failures += [need.choice] if state == "FAILED" else []
        except KeyboardInterrupt as error:
            raise UserError("mode=fetch: stopped; the same command goes on from there") from error
        states[state] += 1
        print(f"  {state:<13}  {need.choice:<{width}}  {line}", flush=True)
    print(", ".join(f"{states[state]} {state}" for state in dict.fromkeys(states)))
    if failures:
        choices = ", ".join(dict.fromkeys(failures))
        raise UserError(f"mode=fetch: {len(failures)} of {len(wanted)} could not be fetched: {choices}")


def needs_of(tasks: Sequence[Task]) -> Iterator[Need]:
    """Yield what the runs need, each thing once, models first."""
    asked: set[str] = set()
    known: set[tuple[str, str]] = set()
    runs = [(task, task.settings()) for task in tasks]
    for group in NODES:
        for task, settings in runs:
            node = settings.plain[group]
            if repr(node) in asked:
                continue
            asked.add(repr(node))
            for need in needs_of_node(group, node, choice_of(group, node, task)):
                key = (need.what.name, need.what.place) if isinstance(need.what, Asset) else (need.choice, "")
                if key not in known:
                    known.add(key)
                    yield replace(need, rebuilt_by=partial(_rebuilt_by, settings)) if group == "model" else need


def _rebuilt_by(settings: Settings) -> Path | None:
    """Return the run that a checkpoint belongs to, if its own files rebuild its model; None: they do not."""
    if settings.checkpoint is None:
        return None
    place = place_of(settings)
    try:
        return place if read_stored(place)[0].rebuilds else None
    except UserError:  # it is told when the run is to be done
        return None


def choice_of(group: str, node: dict[str, Any], task: Task) -> str:
    """Return what to call the part of a group that a run chose: a model with its size."""
    choice, size = task.cell.choices.get(group, group), str(node.get("size", ""))
    return choice if group != "model" or choice.endswith(size) else f"{choice}-{size}"


def needs_of_node(group: str, node: dict[str, Any], choice: str) -> list[Need]:
    """Return what a part of a run needs, or why that is not known."""
    try:
        told = [asset for tell in declared(node, group, ASSETS) for asset in tell()]
    except UserError as error:
        return [Need(choice, error)]
    if not told and group in EXPECTED:
        what = f"{node['_target_']} does not declare its assets (dinodiet.io.assets.needs)"
        return [Need(choice, Asset(choice, what))]
    return [Need(choice, asset) for asset in told]


def _without(need: Need, error: UserError) -> tuple[str, str]:
    """Return what it means that a thing cannot be had, and its line."""
    place = need.rebuilt_by()
    if place is None:
        return "FAILED", one_line(error)
    return "not needed", f"{place} rebuilds its model from its own files ({one_line(error)})"


def have(need: Need) -> tuple[str, str]:
    """Have a thing there; return how it came to be there, and its line.

    Raises:
        UserError: it cannot be had.
    """
    if isinstance(need.what, UserError):
        raise need.what
    if need.what.get is None:
        return "nothing", need.what.place
    found = need.what.find()
    state = "already there" if found is not None else "fetched"
    if found is None:
        print(f"  fetching {need.what.name} to {need.what.place}", flush=True)
        need.what.get()
        found = need.what.find()
    assert found is not None, f"{need.what.name} was fetched, but is not found"
    return state, f"{need.what.name}, {size_on_disk(found)}, {found}"


def size_on_disk(path: Path) -> str:
    """Return the size of a file or folder in words; of folders with very many files, a lower bound."""
    total, count, folders = 0, 0, [path]
    if path.is_file():
        return byte_size(path.stat().st_size)
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir():
                    folders.append(Path(entry.path))
                    continue
                total, count = total + entry.stat().st_size, count + 1
                if count == COUNTED:
                    return f"more than {byte_size(total)}"
    return byte_size(total)
