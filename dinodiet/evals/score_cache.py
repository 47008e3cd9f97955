"""Scores of a frozen encoder on disk: the cells of a sweep that share it compute them once."""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dinodiet.io.files import is_interval, is_number, read_json, write_json
from dinodiet.io.locks import read_or_compute
from dinodiet.types import Evaluator, Images, Score

LIBRARIES = ("torch", "scikit-learn", "scipy")
BETTER, KINDS = ("higher", "lower", "none"), ("metric", "setting", "diagnostic")


def score_key(evaluator: Evaluator, splits: Iterable[tuple[str, Images]], num_labels: int) -> str | None:
    """Return a hash of all that an evaluator's scores depend on: its settings and code, embeddings and labels.

    `splits` are what it is called with, in order: the keys of their embeddings, and the images for their labels. None
    for an evaluator from elsewhere, as what its code depends on cannot be known: it is always computed.
    """
    kind = type(evaluator)
    if not hasattr(kind, "__dataclass_fields__") or not kind.__module__.startswith(f"{__package__}."):
        return None
    digest = hashlib.blake2b(f"{_code()} {num_labels} {evaluator!r}".encode(), digest_size=16)
    for key, images in splits:
        labels = images.labels
        digest.update(f"\0{key} {None if labels is None else tuple(labels.shape)}\0".encode())
        if labels is not None:
            digest.update(labels.contiguous().numpy(force=True).data)
    return digest.hexdigest()


@cache
def _code() -> str:
    """Return a hash of the evaluators' source and libraries: scores of another version are not taken for this one's."""
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    digest = hashlib.blake2b(repr(versions).encode(), digest_size=16)
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class ScoreCache:
    """Scores in files `folder/<key>.json`, for many processes at once: each is computed by one of them."""

    folder: Path

    def get(self, key: str, compute: Callable[[], dict[str, Score]]) -> dict[str, Score]:
        """Return the stored scores, or compute and store them. A broken file is replaced.

        A folder that cannot be written costs the storing, not the result.
        """
        path = self.folder / f"{key}.json"
        return read_or_compute(path, lambda: _read(path), compute, lambda scores: _write(path, scores))


def _read(path: Path) -> dict[str, Score] | None:
    """Return the scores in a file, or None if it is missing or broken. What is undefined was written as null."""
    stored = read_json(path)
    try:
        return None if stored is None else {name: _score(**entry) for name, entry in stored.items()}
    except (TypeError, ValueError):
        return None


def _score(value: Any, better: Any, kind: Any, interval: Any, note: Any) -> Score:
    if not (value is None or is_number(value)) or better not in BETTER or kind not in KINDS:
        raise ValueError(f"{value!r}, {better!r}, {kind!r} are no score")
    if not (interval is None or is_interval(interval)) or not isinstance(note, str | None):
        raise ValueError(f"{interval!r}, {note!r} are no interval and no note")
    ends = None if interval is None else (interval[0], interval[1])
    return Score(math.nan if value is None else value, better, kind, ends, note)


def _write(path: Path, scores: dict[str, Score]) -> None:
    write_json(path, {name: asdict(score) for name, score in scores.items()})
