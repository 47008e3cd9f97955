"""The run directory: the one owner of its file names, and atomic writes into it. Imports no torch."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

# What a run is done with, and not what it is: keys of its configuration that are no part of the directory's name.
NOT_SCIENCE = (
    *("name", "mode", "checkpoint", "device", "num_workers", "compile", "grad_checkpointing", "tracker"),
    *("data_dir", "outputs_dir", "cache_dir", "decoded_gib", "log_every", "checkpoint_minutes", "retry", "detach"),
)


def write_atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write a file so that readers, and a crash at any moment, see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _umask() -> int:
    """Return the process's umask: mkstemp makes files for the owner alone, and colleagues must read results."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically. NaN is written as null: JSON has no NaN, and missing is missing."""
    text = json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n"
    write_atomically(path, lambda stream: _write_text(stream, text))


def _write_text(stream: IO[bytes], text: str) -> None:
    stream.write(text.encode())


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def read_json(path: Path) -> dict[str, Any] | None:
    """Return a JSON object, or None where the file is absent, half-written or something else."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


@dataclass(frozen=True)
class RunDir:
    """`outputs/<name>/<run id>/` and what lies in it."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def status(self) -> Path:
        """The state of the run; see `dinodiet.status`."""
        return self.path / "status.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line: losses and rates every `log_every` steps, validation scores."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """The newest checkpoint; present means resume."""
        return self.path / "checkpoint.pt"

    @property
    def previous_checkpoint(self) -> Path:
        """The checkpoint before it, for when the newest cannot be read."""
        return self.path / "checkpoint.previous.pt"

    @property
    def results(self) -> Path:
        """The results; present means done."""
        return self.path / "results.json"

    @property
    def splits(self) -> Path:
        """Which images are in the splits that were carved; absent where all are official."""
        return self.path / "splits.json"

    @property
    def log(self) -> Path:
        """What the run prints, where it has no terminal: every start of it, one after the other."""
        return self.path / "log.txt"

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run."""
        return self.path / "run.lock"

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of `metrics.jsonl`; a half-written last line is left out."""
        if not self.metrics.exists():
            return
        for line in self.metrics.read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                return

    def keep_metrics_until(self, step: int) -> None:
        """Drop the rows written after the checkpoint at `step`: the resumed run writes them again."""
        if self.metrics.exists():
            rows = [json.dumps(row) + "\n" for row in self.read_metrics() if row["step"] <= step]
            write_atomically(self.metrics, lambda stream: _write_text(stream, "".join(rows)))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append a row to `metrics.jsonl`."""
        with self.metrics.open("a") as stream:
            stream.write(json.dumps(_without_nan(row)) + "\n")
