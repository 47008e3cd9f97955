"""Parsed results kept in a study's `.sweep/collected.json`, so that only new and changed runs are read again.

Disposable: wrong, old and unwritable caches are passed over. A run's entry holds while its results.json has the same
modification time and size. What all runs share is stored once.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinodiet.io.files import parse_json, write_atomically

Scalar = str | int | float | bool | None
Record = dict[str, Scalar]
FORMAT = 8  # to be raised when records change
ABSENT = "\0absent"  # a key that other records have


@dataclass(frozen=True)
class Entry:
    """A record, with the modification time and size of the file that it was read from."""

    mtime_ns: int
    size: int
    record: Record


class Cache:
    """The records of one study, by run directory."""

    def __init__(self, study: Path) -> None:
        self._path = study / ".sweep" / "collected.json"
        try:
            self._old = _unpack(parse_json(self._path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            self._old = {}
        self._used: dict[str, Entry] = {}
        self._changed = False

    def get(self, name: str, mtime_ns: int, size: int) -> Record | None:
        """Return the record of a run, or None where its file has changed since."""
        entry = self._old.get(name)
        if entry is None or (entry.mtime_ns, entry.size) != (mtime_ns, size):
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
            text = json.dumps(_pack(self._used), separators=(",", ":"))
            with contextlib.suppress(OSError):
                write_atomically(self._path, lambda stream: _write(stream, text))


def _write(stream: Any, text: str) -> None:
    stream.write(text.encode())


def _pack(entries: dict[str, Entry]) -> dict[str, Any]:
    keys = list(dict.fromkeys(key for entry in entries.values() for key in entry.record))
    columns = {key: [entry.record.get(key, ABSENT) for entry in entries.values()] for key in keys}
    # 1, 1.0 and True are equal: only what is of one type, too, is shared.
    shared = {key: column[0] for key, column in columns.items() if len({(type(value), value) for value in column}) == 1}
    varying = [key for key in keys if key not in shared]
    return {
        "format": FORMAT,
        "shared": shared,
        "varying": varying,
        "runs": [[name, entry.mtime_ns, entry.size] for name, entry in entries.items()],
        "rows": [[columns[key][row] for key in varying] for row in range(len(entries))],
    }


def _unpack(content: dict[str, Any]) -> dict[str, Entry]:
    if content["format"] != FORMAT:
        return {}
    shared, varying = content["shared"], content["varying"]
    entries = {}
    for (name, mtime_ns, size), row in zip(content["runs"], content["rows"], strict=True):
        given = {key: value for key, value in zip(varying, row, strict=True) if value != ABSENT}
        entries[name] = Entry(mtime_ns, size, {**shared, **given})
    return entries
