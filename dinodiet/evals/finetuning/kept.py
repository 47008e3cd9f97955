"""What a stopped fine-tuning continues from: finished trainings with their weights, and the running one's state."""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinodiet.io.files import read_json, write_atomically, write_json
from dinodiet.io.limits import limit_of

FORMAT = 1
Weights = dict[str, dict[str, Tensor]]  # state dicts, by `last` and `best`
# What torch.load raises for a file that was cut short or is something else.
_BROKEN = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, LookupError, ValueError, TypeError, AttributeError)


@dataclass
class Outcome:
    """What one training gave.

    Attributes:
        lr, seed: of the training.
        facts: of the training, for the protocol.
        val, best_val: metrics on val after the last step, and after the step where they are best.
        best_step: that step.
        first_loss, last_loss: of the first and the last step.
        rows: losses and scores on the way.
        diverged: why there is nothing of this, or None.
        test, best_test: metrics on test; None: test was not looked at.
    """

    lr: float
    seed: int
    facts: dict[str, Any] = field(default_factory=dict)
    val: dict[str, float] = field(default_factory=dict)
    best_val: dict[str, float] = field(default_factory=dict)
    best_step: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    diverged: str | None = None
    test: dict[str, float] | None = None
    best_test: dict[str, float] | None = None

    @property
    def name(self) -> str:
        """Return the name of the training."""
        return name_of(self.lr, self.seed)


def name_of(lr: float, seed: int) -> str:
    """Return the name of a training."""
    return f"lr{lr:g}_seed{seed}"


class Kept:
    """A folder of finished trainings, of one key, and in it the checkpoint of the running one; None: all in memory."""

    def __init__(self, folder: Path | None, key: str) -> None:
        self.folder, self.key = folder, {"format": FORMAT, "key": key}
        self._weights: dict[str, Weights] = {}
        found = None if folder is None else read_json(folder / "outcomes.json")
        same = found is not None and {name: found.get(name) for name in self.key} == self.key
        self.outcomes = {name: Outcome(**entry) for name, entry in found["outcomes"].items()} if same and found else {}

    def add(self, outcome: Outcome, weights: Weights | None = None) -> None:
        """Keep what a training gave, with its weights where they are given."""
        self.outcomes[outcome.name] = outcome
        if weights is not None:
            self._put(outcome.name, weights)
        if self.folder is not None:
            outcomes = {name: asdict(entry) for name, entry in self.outcomes.items()}
            write_json(self.folder / "outcomes.json", {**self.key, "outcomes": outcomes})
            (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def weights(self, name: str) -> Weights | None:
        """Return the weights of a finished training; None where there are none."""
        if self.folder is None:
            return self._weights.get(name)
        return self._read(f"{name}.pt")

    def forget(self, name: str) -> None:
        """Remove the weights of a training."""
        self._weights.pop(name, None)
        if self.folder is not None:
            (self.folder / f"{name}.pt").unlink(missing_ok=True)

    def save(self, name: str, state: dict[str, Any]) -> None:
        """Write the checkpoint of a running training, whole or not at all."""
        if self.folder is not None:
            self._write("checkpoint.pt", {"training": name, **state})

    def checkpoint(self, name: str) -> dict[str, Any] | None:
        """Return the state that a training was stopped in; None where there is none."""
        state = None if self.folder is None else self._read("checkpoint.pt")
        return state if state is not None and state.get("training") == name else None

    def _put(self, name: str, weights: Weights) -> None:
        if self.folder is None:
            self._weights[name] = weights
        else:
            self._write(f"{name}.pt", dict(weights))

    def _write(self, file: str, content: dict[str, Any]) -> None:
        assert self.folder is not None
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / file, lambda stream: torch.save({**self.key, **content}, stream))

    def _read(self, file: str) -> dict[str, Any] | None:
        assert self.folder is not None
        if not (self.folder / file).is_file():
            return None
        try:
            content = torch.load(self.folder / file, map_location="cpu", weights_only=True)
        except _BROKEN as error:
            if limit_of(error) is not None:  # it may be whole: nothing is begun anew for that
                raise
            return None
        same = isinstance(content, dict) and {name: content.pop(name, None) for name in self.key} == self.key
        return content if same else None
