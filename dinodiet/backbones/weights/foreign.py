"""Files that are no checkpoint of torch, called what they are: pages, pointers, other formats, parts of a file."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path

from dinodiet.io.mistaken import other_format, page_or_pointer
from dinodiet.io.zips import opened_zip

_START = 1024  # bytes looked at
_TORCH = "weights are read from .pt, .pth, .bin, .ckpt, .pth.tar and .safetensors"
_CONVERT = f"convert it with its own tools; {_TORCH}"
JOIN = "join its parts with torch.distributed.checkpoint.format_utils.dcp_to_torch_save"
_BY_SUFFIX = {
    ".onnx": "an ONNX graph",
    ".msgpack": "a Flax checkpoint",
    ".h5": "an HDF5 file of Keras",
    ".keras": "a Keras model",
    ".pb": "a TensorFlow graph",
    ".tflite": "a TensorFlow Lite model",
    ".gguf": "a GGUF file",
    ".mlmodel": "a Core ML model",
    ".engine": "a TensorRT engine",
    ".plan": "a TensorRT engine",
    ".distcp": f"a part of a distributed checkpoint; {JOIN}",
    ".index": "an index of a TensorFlow checkpoint",
    ".npz": "a NumPy archive, as JAX's weights are kept in",
    ".npy": "a NumPy array",
    ".json": "a JSON file",
    ".yaml": "a YAML file",
    ".zip": "an archive; unpack it first",
    ".gz": "an archive; unpack it first",
    ".xz": "an archive; unpack it first",
    ".tgz": "an archive; unpack it first",
}
_OLD_PICKLE = re.compile(rb"[(c\]}]")  # as text, of Python 2
_BY_START = {
    b"\x89HDF\r\n": "an HDF5 file, as Keras writes",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"%PDF": "a PDF",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
}


def foreign(path: Path) -> str | None:
    """Return what a file is that cannot be weights, with what to do; None: it may be."""
    with path.open("rb") as file:
        start = file.read(_START)
    if not start:
        return "is empty; copy or download it again"
    if (length := _header_length(start)) is not None:
        return _cut_off(path, length)
    if start.startswith(b"PK\x03\x04") and not zipfile.is_zipfile(path):
        return f"is cut off after {path.stat().st_size:,} bytes; copy or download it again"
    what = _what(start, path)
    return what and (f"is {what}" if ";" in what else f"is {what}; {_CONVERT}")


def _what(start: bytes, path: Path) -> str | None:
    if start.startswith(b"PK\x03\x04"):
        return _archive(path)
    if start.startswith(b"\x80"):  # a pickle
        return None
    if (what := page_or_pointer(start)) is not None:
        return what
    by_start = next((what for magic, what in _BY_START.items() if start.startswith(magic)), None)
    by_name = by_start or _BY_SUFFIX.get(path.suffix.lower())
    if by_name is not None or _OLD_PICKLE.match(start) or (other := other_format(start)) is None:
        return by_name
    return other if ";" in other else f"{other}; {_TORCH}"


def _archive(path: Path) -> str | None:
    with opened_zip(path) as archive:
        names = archive.namelist()
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript archive; save the state_dict() of the model instead"
    if any(name.endswith("data.pkl") for name in names):
        return None
    if names and all(name.endswith(".npy") for name in names):
        return "a NumPy archive, as JAX's weights are kept in"
    if any(name.endswith((".weights.h5", "archive_format", ".json")) for name in names):
        return "an archive of a model, without weights of torch"
    return "an archive; unpack it first"


def _header_length(start: bytes) -> int | None:
    """Return the length of the header where a file begins as safetensors do; None: it does not."""
    length = int.from_bytes(start[:8], "little")
    return length if start[8:9] == b"{" and length < 1 << 32 else None


def _cut_off(path: Path, length: int) -> str | None:
    """Say whether a file of safetensors is shorter than its header says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(8 + length)[8:]
    try:
        ends = [value["data_offsets"][1] for key, value in json.loads(header).items() if key != "__metadata__"]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        ends = []
    expected = 8 + length + max(ends, default=0)
    if len(header) < length or size < expected:
        return f"is cut off: {size:,} bytes of {expected:,}; copy or download it again"
    return None


def is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors do, whatever its name."""
    with path.open("rb") as file:
        return _header_length(file.read(9)) is not None
