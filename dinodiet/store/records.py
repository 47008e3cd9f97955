"""The files of a record: Parquet, in parts, without double rows whatever was interrupted. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dinodiet.errors import UserError
from dinodiet.io.files import atomic_file

STEP = "step"
PART = "part-*.parquet"
BYTES = 8 * 2**20  # of rows in memory, from which on a part is closed


class RecordFiles:
    """Writes `folder/part-<its first step>.parquet`; rows come in the order of their steps.

    Rows wait in memory until `flush`, which writes the part that is open as a whole: its name stays, so that no row is
    ever in two files. At `BYTES` of rows a part is written and closed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: list[Mapping[str, Any]] = []
        self._bytes = 0
        self._flushed = True

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take rows, each with its `step`; numbers and one-dimensional arrays by column."""
        for row in rows:
            self._rows.append(row)
            self._bytes += sum(getattr(value, "nbytes", 8) for value in row.values())
            self._flushed = False
        if self._bytes >= BYTES:
            self.flush()
            self._rows, self._bytes = [], 0

    def flush(self) -> None:
        """Write what waits; an OSError leaves the part as it was."""
        if self._flushed:
            return
        if not self.folder.parent.parent.is_dir():
            raise UserError(f"{self.folder.parent.parent} was removed while the run worked in it")
        self.folder.mkdir(parents=True, exist_ok=True)
        _write(self.folder / f"part-{self._rows[0][STEP]:010d}.parquet", _table(self._rows))
        self._flushed = True

    def keep_until(self, step: int) -> None:
        """Drop the rows after the checkpoint at `step`, which the resumed run writes again; -1 drops all."""
        for path in parts_of(self.folder):
            if _first(path) > step:
                path.unlink()
                continue
            table = pq.read_table(path)
            kept = table.filter(pc.field(STEP) <= step)
            if len(kept) < len(table):
                _write(path, kept)


def parts_of(folder: Path) -> list[Path]:
    """Return the parts of a record in the order of their steps."""
    return sorted(folder.glob(PART))


def read_record(folder: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Return all rows of a record, or their step, epoch and the named columns; null where a row lacks one.

    Raises:
        UserError: a file is broken.
    """
    tables = []
    for path in parts_of(folder):
        try:
            there = pq.read_schema(path).names
            wanted = None if columns is None else [name for name in (STEP, "epoch", *columns) if name in there]
            tables.append(pq.read_table(path, columns=wanted))
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path}: cannot be read ({type(error).__name__})") from error
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def columns_of(folder: Path) -> list[str]:
    """Return the columns of a record that are single numbers, without step and epoch."""
    found: dict[str, None] = {}
    for path in parts_of(folder):
        schema = pq.read_schema(path)
        found |= dict.fromkeys(field.name for field in schema if not pa.types.is_nested(field.type))
    return [name for name in found if name not in (STEP, "epoch")]


def lists_of(folder: Path) -> list[str]:
    """Return the columns of a record that hold lists."""
    schemas = [pq.read_schema(path) for path in parts_of(folder)]
    return [field.name for schema in schemas for field in schema if pa.types.is_nested(field.type)]


def _first(path: Path) -> int:
    return int(path.stem.partition("-")[2])


def _table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: Sequence[Any]) -> pa.Array:
    return pa.array(values, pa.float64() if any(isinstance(value, float) for value in values) else None)


def _write(path: Path, table: pa.Table) -> None:
    with atomic_file(path) as unfinished:
        pq.write_table(table, unfinished, compression="zstd")
