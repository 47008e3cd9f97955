"""Scores of a frozen encoder on disk: the cells of a sweep that share it compute them once.

Those of evaluators that train are kept with the artefacts that they wrote. Others that are given the encoder may read
what their settings do not tell (other images), and are always computed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from dinodiet.io.files import is_interval, is_number, read_json, write_json
from dinodiet.io.locks import read_or_compute
from dinodiet.types import Evaluator, Images, InputSpec, Report, Score

LIBRARIES = ("torch", "scikit-learn", "scipy")
TRAINED_WITH = ("training", "methods", "data/loader.py", "data/views", "backbones", "schedules.py")  # by evaluators
BETTER, KINDS = ("higher", "lower", "none"), ("metric", "setting", "diagnostic")


def score_key(
    evaluator: Evaluator, splits: Iterable[tuple[str, Images]], num_labels: int, positions: Tensor | None = None
) -> str | None:
    """Return a hash of all that an evaluator's scores depend on: its settings and code, embeddings and labels.

    `splits` are what it is called with, in order: the keys of their embeddings, and the images for their labels.
    `positions` are those of the images of train that count; None: all. Returns None for an evaluator from elsewhere,
    as what its code depends on cannot be known: it is always computed.
    """
    if not _is_known(evaluator):
        return None
    digest = hashlib.blake2b(f"{_code()} {num_labels} {evaluator!r}".encode(), digest_size=16)
    for key, images in splits:
        labels = images.labels
        digest.update(f"\0{key} {None if labels is None else tuple(labels.shape)}\0".encode())
        if labels is not None:
            digest.update(labels.contiguous().numpy(force=True).data)
    if positions is not None:
        digest.update(b"\0only\0" + positions.contiguous().numpy().tobytes())
    return digest.hexdigest()


def encoder_key(
    evaluator: Evaluator, encoder: str, input: InputSpec, splits: Iterable[Images], precision: str, *more: object
) -> str:
    """Return a hash of all that the scores of an evaluator depend on that is given the encoder.

    Args:
        evaluator: its settings are what it prints as.
        encoder: the fingerprint.
        input: of the encoder.
        splits: images and labels, in the order of train, the one reported, and val.
        precision: of the arithmetic.
        more: what else the evaluator is told.
    """
    code = _code(*TRAINED_WITH) if evaluator.needs == "training" else _code()
    text = f"{code} {evaluator!r} {encoder} {input} {precision} {more!r}"
    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for images in splits:
        labels = images.labels
        digest.update(f"\0{images.fingerprint()} {None if labels is None else tuple(labels.shape)}\0".encode())
        if labels is not None:
            digest.update(labels.contiguous().numpy(force=True).data)
    return digest.hexdigest()


def _is_known(evaluator: Evaluator) -> bool:
    """Return whether the code that an evaluator depends on is this package's."""
    kind = type(evaluator)
    return hasattr(kind, "__dataclass_fields__") and kind.__module__.startswith(f"{__package__}.")


@cache
def _code(*rooms: str) -> str:
    """Return a hash of the evaluators' source and libraries: scores of another version are not taken for this one's.

    `rooms` are folders and files of the package whose source counts as well.
    """
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    digest = hashlib.blake2b(repr(versions).encode(), digest_size=16)
    own = Path(__file__).parent
    for path in [path for root in (own, *(own.parent / room for room in rooms)) for path in _sources(root)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _sources(root: Path) -> list[Path]:
    return sorted(root.rglob("*.py")) if root.is_dir() else [root]


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


@dataclass(frozen=True)
class ReportCache:
    """Reports in files `folder/<key>.json`, as `ScoreCache`; what was written beside them lies in `folder/<key>/`."""

    folder: Path

    def get(self, evaluator: Evaluator, key: str, artefacts: Path | None, compute: Callable[[], Report]) -> Report:
        """Return the stored report, or compute and store it; an evaluator from elsewhere is always computed.

        Args:
            evaluator: whose report it is.
            key: of `encoder_key`.
            artefacts: the folder that has what the evaluator wrote, afterwards in any case; None: nothing is kept.
            compute: returns the report, and writes the artefacts.
        """
        if not _is_known(evaluator):
            return compute()
        path = self.folder / f"{key}{'' if artefacts is None else '_artefacts'}.json"
        kept = path.with_suffix("")

        def write(report: Report) -> None:
            if artefacts is not None and artefacts.exists():
                shutil.copytree(artefacts, kept, dirs_exist_ok=True)
            write_json(path, asdict(report))

        report = read_or_compute(path, lambda: _read_report(path), compute, write)
        if artefacts is not None and kept.exists():
            shutil.copytree(kept, artefacts, dirs_exist_ok=True)
        return report


def _read_report(path: Path) -> Report | None:
    stored = read_json(path)
    try:
        return None if stored is None else _report(**stored)
    except (TypeError, ValueError, AttributeError):
        return None


def _report(test: Any, val: Any, protocol: Any) -> Report:
    if not isinstance(protocol, dict):
        raise ValueError("no protocol")
    test, val = ({name: _score(**entry) for name, entry in scores.items()} for scores in (test, val))
    return Report(test, val, protocol)


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
