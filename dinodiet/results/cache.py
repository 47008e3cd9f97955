"""Parsed results kept in a study's `.sweep/collected.json`, so that only new and changed runs are read again.

Disposable: wrong, old and unwritable caches are passed over. A run's entry holds while its results.json has the same
marks (`results.marks`). Records of the same keys are kept together, and what all of them share is stored once.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinodiet.io.files import parse_json, write_atomically, write_text
from dinodiet.results.marks import Mark, is_settled

Scalar = str | int | float | bool | None
Record = dict[str, Scalar]
FORMAT = 11  # to be raised when records change


@dataclass(frozen=True)
class Entry:
    """A record, with the marks of the file that it was read from."""

    mark: Mark
    record: Record


class Cache:
    """The records of one study, by run directory."""

    def __init__(self, study: Path) -> None:
        self._path = study / ".sweep" / "collected.json"
        try:
            written = self._path.stat().st_mtime_ns
            self._old = _unpack(parse_json(self._path.read_bytes()), written)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._old = {}
        self._used: dict[str, Entry] = {}
        self._changed = False

    def get(self, name: str, mark: Mark) -> Record | None:
        """Return the record of a run, or None where its file has changed since."""
        entry = self._old.get(name)
        if entry is None or entry.mark != mark:
            return None
        self._used[name] = entry
        return entry.record

    def put(self, name: str, entry: Entry) -> None:
        """Add a run that was read anew."""
        self._used[name] = entry
        self._changed = True

    def save(self) -> None:
        """Write the runs that were got and put, where that is news. Folders may be read-only."""
        if self._changed:
            text = json.dumps({"format": FORMAT, "kinds": _pack(self._used)}, separators=(",", ":"))
            with contextlib.suppress(OSError):
                write_atomically(self._path, lambda stream: write_text(stream, text))


def _pack(entries: dict[str, Entry]) -> list[dict[str, Any]]:
    """Return the records by their keys, which are few kinds among thousands of runs."""
    kinds: dict[tuple[str, ...], list[str]] = {}
    for name, entry in entries.items():
        kinds.setdefault(tuple(entry.record), []).append(name)
    return [_kind(keys, {name: entries[name] for name in names}) for keys, names in kinds.items()]


def _kind(keys: tuple[str, ...], entries: dict[str, Entry]) -> dict[str, Any]:
    columns = [list(column) for column in zip(*(entry.record.values() for entry in entries.values()), strict=True)]
    shared = [_is_shared(column) for column in columns]
    varying = [column for column, same in zip(columns, shared, strict=True) if not same]
    return {
        "keys": keys,
        "shared": {key: column[0] for key, column, same in zip(keys, columns, shared, strict=True) if same},
        "runs": [[name, *entry.mark] for name, entry in entries.items()],
        "columns": varying,
    }


def _is_shared(column: list[Scalar]) -> bool:
    """Return whether all values are one. 1, 1.0 and True are equal: only what is of one type, too, is shared."""
    return column.count(column[0]) == len(column) and len({*map(type, column)}) == 1


def _unpack(content: dict[str, Any], written: int) -> dict[str, Entry]:
    """Return the entries of a cache that was `written` then (ns); those that may have changed since are left out."""
    entries: dict[str, Entry] = {}
    for kind in content["kinds"] if content["format"] == FORMAT else ():
        shared, columns, runs = kind["shared"], kind["columns"], kind["runs"]
        record: Record = {key: shared.get(key) for key in kind["keys"]}
        varying = [key for key in record if key not in shared]
        rows = zip(*columns, strict=True) if columns else [()] * len(runs)
        for (name, *mark), row in zip(runs, rows, strict=True):
            if is_settled(mark[0], written):
                entries[name] = Entry(tuple(mark), {**record, **dict(zip(varying, row, strict=True))})
    return entries
