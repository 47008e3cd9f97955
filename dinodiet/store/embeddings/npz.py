"""Embeddings as .npz, which numpy alone reads: a file a split, put together of its parts. Imports no torch."""

from __future__ import annotations

import contextlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dinodiet.io.files import atomic_file
from dinodiet.store.embeddings.parts import Layout, Part, Rows, key_of

PARTS = ".parts"
METADATA = "metadata"
TEXT = ("files", "classes", METADATA)  # of fixed width, which is mostly nothing: compressed


@dataclass(frozen=True)
class NpzWriter:
    """Writes `folder/<split>.npz`; parts lie in `folder/.parts/` until all of a split are there.

    Arrays: embeddings (N, D); index (N,); files (N,), where images are files; labels (N,) or (N, L), where there are
    any; classes, where names are known; metadata, text with JSON. Nothing in it needs pickle. Memory holds one part.
    """

    folder: Path
    layout: Layout

    def missing(self, parts: Sequence[Part]) -> list[Part]:
        """Return the parts that are not there, or are broken or of another key."""
        if _key(self._path(parts[0].split)) == _key_of_all(parts):
            return []
        return [part for part in parts if _key(self._part(part)) != part.key]

    def exists(self, part: Part) -> bool:
        """Return whether there is a file with this part, whatever it holds."""
        return self._part(part).exists() or self._path(part.split).exists()

    def write(self, part: Part, rows: Rows) -> None:
        """Write a part; an OSError leaves nothing of it."""
        told = np.array(json.dumps({"key": part.key}))
        found: dict[str, NDArray[Any]] = {"embeddings": rows.embeddings, "index": rows.index, METADATA: told}
        if rows.files is not None:
            found["files"] = np.array(rows.files, dtype=np.str_)
        if rows.labels is not None:
            found["labels"] = rows.labels
        with _archive(self._part(part)) as archive:
            for name, array in found.items():
                _add(archive, name, [array], array.dtype, array.shape)

    def finish(self, parts: Sequence[Part]) -> list[Path]:
        """Return the file of a split; it is put together where that was not done."""
        path = self._path(parts[0].split)
        if _key(path) != _key_of_all(parts):
            with _archive(path) as archive:
                self._put_together(archive, parts)
        for left in (self.folder / PARTS).glob(f"{parts[0].split}-*.npz"):
            left.unlink()
        with contextlib.suppress(OSError):  # not empty: of other splits, or absent
            (self.folder / PARTS).rmdir()
        return [path]

    def _put_together(self, archive: zipfile.ZipFile, parts: Sequence[Part]) -> None:
        files = [self._part(part) for part in parts]
        with np.load(files[0], allow_pickle=False) as first:
            kinds = {name: (first[name].dtype, first[name].shape[1:]) for name in first.files if name != METADATA}
        for name, (kind, shape) in kinds.items():
            widest = np.result_type(*(array.dtype for array in _read(files, name))) if name in TEXT else kind
            _add(archive, name, _read(files, name), widest, (parts[-1].stop, *shape))
        told = {**self.layout.about, "split": parts[0].split, "key": _key_of_all(parts)}
        texts = {METADATA: np.array(json.dumps(told))}
        if self.layout.classes is not None:
            texts["classes"] = np.array(list(self.layout.classes), dtype=np.str_)
        for name, array in texts.items():
            _add(archive, name, [array], array.dtype, array.shape)

    def _path(self, split: str) -> Path:
        return self.folder / f"{split}.npz"

    def _part(self, part: Part) -> Path:
        return self.folder / PARTS / f"{part.name}.npz"


def _key_of_all(parts: Sequence[Part]) -> str:
    return key_of(part.key for part in parts)


@contextlib.contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    with atomic_file(path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        yield archive


def _read(files: Iterable[Path], name: str) -> Iterator[NDArray[Any]]:
    for file in files:
        with np.load(file, allow_pickle=False) as part:
            yield part[name]


def _add(
    archive: zipfile.ZipFile, name: str, arrays: Iterable[NDArray[Any]], kind: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    """Add one array, of which `arrays` are the rows in order, all in the same bytes each time."""
    info = zipfile.ZipInfo(f"{name}.npy")  # dated 1980
    info.compress_type = zipfile.ZIP_DEFLATED if name in TEXT else zipfile.ZIP_STORED
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    with archive.open(info, "w", force_zip64=True) as stream:
        np.lib.format.write_array_header_1_0(stream, header)
        for array in arrays:
            stream.write(np.ascontiguousarray(array, dtype=kind).tobytes())


def _key(path: Path) -> str | None:
    """Return the key of what is in a file; None where it is missing, broken or something else."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as found:
            told = json.loads(str(found[METADATA]))
    except (OSError, EOFError, ValueError, KeyError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error):
        return None
    return str(told.get("key")) if isinstance(told, dict) else None
