"""The user's modules that runs need: a copy of the code takes them along. Imports no torch, and runs none of them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from dinodiet.config.precheck import own_package
from dinodiet.config.signature import targets
from dinodiet.sweep.task import Task

MOST_FILES, MOST_BYTES = 1000, 20 * 2**20  # of a package: what has more holds data, and is imported from its place


def own_modules(tasks: Sequence[Task]) -> dict[str, Path]:
    """Return files and packages of the user's that tasks name in a `_target_`, and those that they import.

    What is installed is left out, and so are packages that hold data: they are imported from where they are.
    """
    waiting = {node["_target_"].partition(".")[0] for task in tasks for node, _ in targets(task.config, "")}
    found: dict[str, Path] = {}
    seen = {"dinodiet"}
    while new := waiting - seen:
        seen |= new
        places = {name: place for name in new if (place := own_package(name)) is not None and _is_small(place)}
        found |= places
        waiting = {name for place in places.values() for name in _imported(place)}
    return found


def _is_small(path: Path) -> bool:
    total = 0
    for number, file in enumerate(_files(path)):
        total += file.stat().st_size
        if number >= MOST_FILES or total > MOST_BYTES:
            return False
    return True


def _files(path: Path) -> Iterator[Path]:
    yield from [path] if path.is_file() else (file for file in path.rglob("*") if file.is_file())


def _imported(path: Path) -> Iterable[str]:
    """Return the top-level names that a module or a package imports; those of files that are no Python are left out."""
    names: set[str] = set()
    for file in _files(path):
        if file.suffix == ".py":
            try:
                tree = ast.parse(file.read_bytes())
            except (SyntaxError, ValueError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    names |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module.partition(".")[0])
    return names
