"""The run directory: the one owner of its file names, and what lies in it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dinodiet.config.parent import ENCODER, WHOLE
from dinodiet.errors import UserError
from dinodiet.io.files import is_number, naming, parse_json, without_nan, write_atomically, write_text


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
        """The state of the run; see `dinodiet.store.status`."""
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
    def scores(self) -> Path:
        """The folder of scores, one file an evaluation; see `dinodiet.store.scores`."""
        return self.path / "scores"

    @property
    def artefacts(self) -> Path:
        """The folder of figures and tables that evaluators write, by phase and evaluator."""
        return self.path / "artefacts"

    @property
    def records(self) -> Path:
        """The folder of what is recorded while the run trains, a folder a record; see `dinodiet.store.records`."""
        return self.path / "records"

    @property
    def work(self) -> Path:
        """The folder of what evaluators that train continue from, by the name of the score; gone when it is there."""
        return self.path / "work"

    @property
    def weights(self) -> Path:
        """The trained weights of the whole method; written when the run is done."""
        return self.path / WHOLE

    @property
    def encoder(self) -> Path:
        """The evaluated encoder's weights, under the names of its backbone; written when the run is done."""
        return self.path / ENCODER

    @property
    def exports(self) -> Path:
        """The folder of exported weights, by target; see `dinodiet.run.export`."""
        return self.path / "export"

    def kept(self, step: int) -> Path:
        """The weights of the whole method after a step, where `keep_every_epochs` asks for them."""
        return self.path / "kept" / f"step{step:08}.safetensors"

    @property
    def splits(self) -> Path:
        """Which images are in the splits that were held out; absent where all are official."""
        return self.path / "splits.json"

    @property
    def dataset(self) -> Path:
        """What the dataset was: sizes, and the names of the classes."""
        return self.path / "dataset.json"

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
        for line in self.metrics.read_bytes().splitlines():
            try:
                row = parse_json(line)
            except ValueError:
                return
            if isinstance(row, dict) and is_number(row.get("step")):
                yield row

    def keep_metrics_until(self, step: int) -> None:
        """Drop the rows written after the checkpoint at `step`: the resumed run writes them again."""
        if self.metrics.exists():
            rows = [json.dumps(row) + "\n" for row in self.read_metrics() if row["step"] <= step]
            write_atomically(self.metrics, lambda stream: write_text(stream, "".join(rows)))

    def append_metrics(self, row: dict[str, Any]) -> None:
        """Append a row to `metrics.jsonl`.

        Raises:
            UserError: the run directory was removed.
            OSError: the row cannot be written.
        """
        if not self.path.is_dir():
            raise UserError(f"{self.path} was removed while the run worked in it; the same command begins anew")
        with naming(self.metrics), self.metrics.open("a") as stream:
            stream.write(json.dumps(without_nan(row)) + "\n")
