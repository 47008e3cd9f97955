"""The run that a model's weights are from: it counts by their content, wherever it lies. Imports no torch."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from dinodiet.config.signature import Node
from dinodiet.errors import UserError

ENCODER, WHOLE = "encoder.safetensors", "weights.safetensors"  # of a finished run: see `dinodiet.store.rundir.RunDir`
DIGITS = 16  # of a digest, in hexadecimal
TEACHER_START = "method.teacher.start"
OWN = {"method.student": "teacher", TEACHER_START: "model"}  # what networks begin with by themselves


def parent_of(model: Node) -> dict[str, str] | None:
    """Return the run that a model's node takes its weights from: its `run_id`, and a digest of its `weights`.

    None: they are from elsewhere, or no such run is finished.
    """
    return _kept(str(model.get("weights")), ENCODER)


def whole_run(place: str) -> dict[str, str] | None:
    """Return the run that lies in a place, by all that its method left; None: no finished run lies there."""
    return _kept(place, WHOLE)


def starts_of(method: Node) -> dict[str, Node]:
    """Return the nodes that say what the networks of a method begin with, by their keys."""
    student, teacher = method.get("student"), method.get("teacher")
    found = {"method.student": student, TEACHER_START: teacher.get("start") if isinstance(teacher, dict) else None}
    return {key: node for key, node in found.items() if isinstance(node, dict)}


def check_starts(method: Node) -> None:
    """Refuse runs that networks are to begin with and that are not there.

    Raises:
        UserError: one line with the key.
    """
    for key, node in starts_of(method).items():
        place = node.get("checkpoint")
        if isinstance(place, str) and whole_run(place) is None:
            raise UserError(f"{key}.checkpoint: {place} holds no {WHOLE}; must be the directory of a finished run")


def begun_elsewhere(method: Node) -> dict[str, str]:
    """Return what networks of a method begin with, by the key, where it is not what they do by themselves."""
    inits = {f"{key}.init": str(node.get("init", OWN[key])) for key, node in starts_of(method).items()}
    return {key: init for key, init in inits.items() if init != OWN[key.removesuffix(".init")]}


def _kept(given: str, name: str) -> dict[str, str] | None:
    place = Path(given).expanduser()
    file = place.parent / name if place.name in (ENCODER, WHOLE) else place / name
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
