"""Embeddings as Parquet: a file a part, a row an image. Imports no torch."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dinodiet.io.files import atomic_file
from dinodiet.store.embeddings.parts import Layout, Part, Rows

METADATA = b"dinodiet"


@dataclass(frozen=True)
class ParquetWriter:
    """Writes `folder/<split>-<number>.parquet`.

    Columns: split; index; file, where images are files; label and, where names are known, class (of several labels
    lists: 0/1 for each, the names of those that are 1); embedding, a list of fixed size. What the metadata say of
    model, weights and preprocessing is JSON under the key `dinodiet`.
    """

    folder: Path
    layout: Layout

    def missing(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts that are not there, or are broken or of another key."""
        return [part for part in parts if _key(self._path(part)) != part.key]

    def exists(self, part: Part) -> bool:
        """Return whether there is a file of this part, whatever it holds."""
        return self._path(part).exists()

    def write(self, part: Part, rows: Rows) -> None:
        """Write a part; an OSError leaves nothing of it."""
        told = {**self.layout.about, "split": part.split, "rows": [part.start, part.stop], "key": part.key}
        columns = self._columns(part, rows)
        table = pa.table(columns, metadata={METADATA: json.dumps(told).encode()})
        plain = [name for name in columns if name in ("split", "class")]
        with atomic_file(self._path(part)) as unfinished:
            pq.write_table(table, unfinished, row_group_size=len(part), use_dictionary=plain, compression="zstd")

    def finish(self, parts: Sequence[Part]) -> list[Path]:
        """Return the files of a split, and remove those of it that are no parts any more."""
        files = [self._path(part) for part in parts]
        number = re.compile(rf"{re.escape(parts[0].split)}-\d{{5,}}\.parquet")
        for path in self.folder.iterdir():
            if number.fullmatch(path.name) and path not in files:
                path.unlink()
        return files

    def _path(self, part: Part) -> Path:
        return self.folder / f"{part.name}.parquet"

    def _columns(self, part: Part, rows: Rows) -> Mapping[str, Any]:
        columns = {"split": pa.array([part.split] * len(part), pa.string()), "index": pa.array(rows.index, pa.int64())}
        if self.layout.named:
            columns["file"] = pa.array(rows.files or itertools.repeat(None, len(part)), pa.string())
        if self.layout.num_labels:
            columns["label"] = self._label(rows, len(part))
        if self.layout.num_labels and self.layout.classes is not None:
            columns["class"] = self._class(rows, len(part), self.layout.classes)
        return {**columns, "embedding": _lists(rows.embeddings, pa.float32())}

    def _label(self, rows: Rows, count: int) -> Any:
        # Lists of any size: pyarrow 24 and older cannot read a missing one of fixed size.
        kind = pa.list_(pa.int8()) if self.layout.multilabel else pa.int64()
        if rows.labels is None:
            return pa.nulls(count, kind)
        return _lists(rows.labels, pa.int8()).cast(kind) if self.layout.multilabel else pa.array(rows.labels, kind)

    def _class(self, rows: Rows, count: int, names: Sequence[str]) -> Any:
        kind = pa.list_(pa.string()) if self.layout.multilabel else pa.string()
        if rows.labels is None:
            return pa.nulls(count, kind)
        if not self.layout.multilabel:
            return pa.array([names[label] for label in rows.labels.tolist()], kind)
        return pa.array([[names[label] for label in np.flatnonzero(row).tolist()] for row in rows.labels], kind)


def _lists(values: NDArray[Any], kind: Any) -> Any:
    """Return the rows of (N, D) as lists of fixed size."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind), values.shape[1])


def _key(path: Path) -> str | None:
    """Return the key of the part in a file; None where it is missing, broken or something else."""
    try:
        told = json.loads((pq.read_schema(path).metadata or {})[METADATA])
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return None
    return str(told.get("key")) if isinstance(told, dict) else None
