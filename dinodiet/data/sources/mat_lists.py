"""Lists in MATLAB files of version 5: numbers, texts, cells of both, and structs, which are one record an entry.

The format is MathWorks' "MAT-File Format". scipy reads it in C and takes what a file says of itself for true: cells in
cells, or one changed byte, end the process. Lists are all that is needed here: nothing lies deeper than two levels.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dinodiet.io.units import byte_size

HEAD, TAG, MOST = 128, 8, 2**24  # bytes of the head and of a tag; that a file may hold, unpacked
INT8, INT32, UINT32, MATRIX, COMPRESSED, UTF8 = 1, 5, 6, 14, 15, 16  # types of elements
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
LETTERS = {1: "u1", 2: "u1", 4: "u2", UTF8: "u1", 17: "u2"}  # of texts
CELL, STRUCT, CHAR, NUMERIC = 1, 2, 4, range(6, 16)  # classes of matrices
COMPLEX = 0x800
FAULTS = (ValueError, LookupError, OSError, OverflowError, struct.error, zlib.error)

Value = list[Any] | str | dict[str, list[Any]]  # of numbers or of a cell; text; the fields of a struct


class _Element(NamedTuple):
    kind: int
    content: memoryview


def read_lists(path: Path, *names: str) -> dict[str, Value]:
    """Return variables of a file, flat.

    Raises:
        One of FAULTS: the file is cut short, is of another version, holds other things than lists, or lacks a variable.
    """
    if path.stat().st_size > MOST:
        raise ValueError(f"it has {byte_size(path.stat().st_size)}, which is no list")
    data = path.read_bytes()
    order = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}.get(data[HEAD - 4 : HEAD])
    if order is None:
        raise ValueError("it is no MATLAB file of version 5")
    found = dict(_variable(variable, order, names) for variable in _variables(memoryview(data)[HEAD:], order))
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"it holds no variable {missing[0]!r}")
    return {name: found[name] for name in names}


def column(records: Value, field: str) -> list[Any]:
    """Return a field of all records; a ValueError where there is none."""
    if not isinstance(records, dict) or field not in records:
        raise ValueError(f"it holds no field {field!r}")
    return records[field]


def texts(values: Value) -> list[str]:
    """Return a list of texts; a ValueError where it holds others."""
    if wrong := [value for value in values if not isinstance(value, str)]:
        raise ValueError(f"{str(wrong[0])[:40]} found where a text is expected")
    return list(values)


def whole_numbers(values: Value) -> list[int]:
    """Return a list of whole numbers; a ValueError where it holds others."""
    found = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in values]
    if wrong := [value for value in found if not isinstance(value, (int, float)) or value % 1 != 0]:
        raise ValueError(f"{str(wrong[0])[:40]} found where a whole number is expected")
    return [int(value) for value in found]


def _variables(data: memoryview, order: str) -> Iterator[_Element]:
    left = MOST
    for element in _elements(data, order, padded=False):
        if element.kind != COMPRESSED:
            yield element
            continue
        stream = zlib.decompressobj()
        unpacked = stream.decompress(element.content, left)
        if not stream.eof:
            raise ValueError(f"a variable is cut short, or has more than {byte_size(left)}")
        left -= len(unpacked)
        yield from _elements(memoryview(unpacked), order)


def _elements(data: memoryview, order: str, padded: bool = True) -> Iterator[_Element]:
    start = 0
    while start < len(data):
        if len(data) - start < TAG:
            raise ValueError("it is cut short")
        kind, size = struct.unpack_from(f"{order}2I", data, start)
        small = kind >> 16  # so many bytes, up to four, lie in the tag itself
        begin, size, kind = (start + 4, small, kind & 0xFFFF) if small else (start + TAG, size, kind)
        start = start + TAG if small else begin + size + (-size % TAG if padded else 0)
        if begin + size > len(data) or small > 4 or start > len(data):
            raise ValueError("it is cut short")
        yield _Element(kind, data[begin : begin + size])


def _variable(element: _Element, order: str, names: Sequence[str]) -> tuple[str, Value]:
    """Return the name and the value of a variable; no value where the name is not wanted."""
    _, _, name, _ = _head(element, order)
    return name, _value(element, order) if name in names else []


def _head(element: _Element, order: str) -> tuple[int, list[int], str, list[_Element]]:
    """Return the class and flags of a matrix, its dimensions, its name, and what it holds."""
    if element.kind != MATRIX:
        raise ValueError(f"an element of type {element.kind} is found where a matrix is expected")
    parts = list(_elements(element.content, order))
    if [part.kind for part in parts[:3]] != [UINT32, INT32, INT8] or len(parts[0].content) != 8:
        raise ValueError("a matrix has another head")
    flags = _numbers(parts[0], order)[0]
    sizes = _numbers(parts[1], order)
    if len(sizes) < 2 or min(sizes) < 0:
        raise ValueError(f"a matrix is of size {sizes}")
    return flags, sizes, bytes(parts[2].content).decode("ascii"), parts[3:]


def _value(element: _Element, order: str, depth: int = 0) -> Value:
    if not element.content:  # what a cell holds before something is put into it
        return []
    flags, sizes, _, parts = _head(element, order)
    code = flags & 0xFF
    if code in (CHAR, *NUMERIC):
        if len(parts) != 1 or flags & COMPLEX:
            raise ValueError("a matrix holds something else than its numbers")
        if code == CHAR:
            return _text(parts[0], order, sizes)
        return _sized(_numbers(parts[0], order), math.prod(sizes))
    if depth or code not in (CELL, STRUCT):
        raise ValueError("it holds more than lists: objects, functions, or cells in each other")
    fields = _fields(parts[:2], order) if code == STRUCT else [""]
    items = _sized(parts[2:] if code == STRUCT else parts, math.prod(sizes) * len(fields))
    values = [_value(item, order, depth + 1) for item in items]
    return {name: values[i :: len(fields)] for i, name in enumerate(fields)} if code == STRUCT else values


def _fields(parts: list[_Element], order: str) -> list[str]:
    """Return the names of the fields of a struct, each padded with zeros."""
    if [part.kind for part in parts] != [INT32, INT8]:
        raise ValueError("a struct has another head")
    (length,), every = _numbers(parts[0], order), bytes(parts[1].content)
    if length < 1 or len(every) % length:
        raise ValueError("a struct has another head")
    return [every[i : i + length].split(b"\0")[0].decode("ascii") for i in range(0, len(every), length)]


def _sized(items: list[Any], size: int) -> list[Any]:
    if len(items) != size:
        raise ValueError(f"{len(items)} found where {size} are expected")
    return items


def _numbers(element: _Element, order: str) -> list[Any]:
    if element.kind not in NUMBERS:
        raise ValueError(f"an element of type {element.kind} is found where numbers are expected")
    found: list[Any] = np.frombuffer(element.content, order + NUMBERS[element.kind]).tolist()
    return found


def _text(element: _Element, order: str, sizes: list[int]) -> str:
    if element.kind not in LETTERS or sizes[0] > 1:
        raise ValueError("a text has several lines, or is none")
    letters = np.frombuffer(element.content, order + LETTERS[element.kind])
    if element.kind == UTF8:
        return letters.tobytes().decode("utf-8")
    return letters.astype("<u2").tobytes().decode("utf-16-le")
