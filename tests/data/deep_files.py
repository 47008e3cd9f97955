"""Image files of 16 bits a sample that Pillow cannot write: colours, opacity, chunks and tags beside."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.integer]
COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # of PNG, by the number of bands


def png(values: Values, **chunks: bytes) -> bytes:
    """Return a PNG file of (H, W, bands), with these chunks before the pixels."""
    height, width, bands = values.shape
    head = struct.pack(">IIBBBBB", width, height, 16, COLOUR_TYPES[bands], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    every = {"IHDR": head, **chunks, "IDAT": zlib.compress(rows), "IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name.encode(), data) for name, data in every.items())


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(
    values: Values,
    *,
    order: str = "<",
    packed: bool = False,
    separate: bool = False,
    tags: dict[int, int] | None = None,
) -> bytes:
    """Return a TIFF file of (H, W, bands) in this byte order, with these short tags beside.

    Four bands are colours with opacity (tag 338: 1 multiplied, 2 not), or CMYK (tag 262: 5).
    """
    height, width, bands = values.shape
    parts = [values[..., band] for band in range(bands)] if separate else [values]
    data = [part.astype(f"{order}u2").tobytes() for part in parts]
    data = [zlib.compress(part) for part in data] if packed else data
    body, starts = b"", []
    for part in data:
        starts.append(8 + len(body))
        body += part + b"\0" * (len(part) % 2)
    longs = [(258, "H", [16] * bands), (273, "I", starts), (279, "I", list(map(len, data)))]
    short = {256: width, 257: height, 259: 8 if packed else 1, 262: 2 if bands > 1 else 1, 277: bands, 278: height}
    entries: dict[int, bytes] = {}
    for tag, kind, found in longs:
        packed_values = struct.pack(f"{order}{len(found)}{kind}", *found)
        place = struct.pack(f"{order}I", 8 + len(body)) if len(packed_values) > 4 else packed_values.ljust(4, b"\0")
        body += packed_values if len(packed_values) > 4 else b""
        entries[tag] = struct.pack(f"{order}HHI", tag, 3 if kind == "H" else 4, len(found)) + place
    for tag, value in {**short, 284: 2 if separate else 1, **(tags or {})}.items():
        entries[tag] = struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    folder = struct.pack(f"{order}H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + bytes(4)
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8 + len(body)) + body + folder


def pnm(values: Values, largest: int, *, plain: bool = False) -> bytes:
    """Return a PGM or PPM file of (H, W, 1 | 3), whose head says this largest value."""
    height, width, bands = values.shape
    number = {1: 5, 3: 6}[bands] - 3 * plain
    head = f"P{number}\n# a comment\n{width} {height}\n{largest}\n".encode()
    return head + (" ".join(map(str, values.flatten())).encode() if plain else values.astype(">u2").tobytes())
