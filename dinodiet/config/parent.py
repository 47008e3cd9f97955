"""The run that a model's weights are from: it counts by their content, wherever it lies. Imports no torch."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from dinodiet.config.signature import Node

ENCODER, WHOLE = "encoder.safetensors", "weights.safetensors"  # of a finished run: see `dinodiet.store.rundir.RunDir`
DIGITS = 16  # of a digest, in hexadecimal


def parent_of(model: Node) -> dict[str, str] | None:
    """Return the run that a model's node takes its weights from: its `run_id`, and a digest of its `weights`.

    None: they are from elsewhere, or no such run is finished.
    """
    place = Path(str(model.get("weights"))).expanduser()
    file = place.parent / ENCODER if place.name in (ENCODER, WHOLE) else place / ENCODER
    try:
        found = file.stat()
    except OSError:
        return None
    return {"run_id": file.absolute().parent.name, "weights": _digest(file, found.st_mtime_ns, found.st_size)}


@functools.lru_cache(maxsize=4096)
def _digest(file: Path, changed: int, size: int) -> str:
    """Return a hash of a file's content; of one that has not changed it is known."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()[:DIGITS]


def by_content(model: Node) -> Node:
    """Return a model's node with the weights of a run named by their content."""
    parent = parent_of(model)
    return model if parent is None else {**model, "weights": f"run:{parent['weights']}"}
