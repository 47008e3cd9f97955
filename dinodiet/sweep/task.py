"""A cell to be run: its composed configuration, and the one function that every launcher calls with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from dinodiet.config.schema import check, identity, own_choices, run_id, settings_hash
from dinodiet.store.grid import Cell
from dinodiet.store.rundir import RunDir


@dataclass(frozen=True)
class Task:
    """One cell of a sweep.

    Attributes:
        cell: what it is.
        study: `outputs/<name>`.
        config: the composed configuration as plain values. Interpolations stay: paths may differ on another machine.
        settings: hash of the configuration; see `dinodiet.config.schema.settings_hash`.
    """

    cell: Cell
    study: Path
    config: dict[str, Any]
    settings: str | None = None

    @property
    def run_dir(self) -> RunDir:
        """The directory of the run."""
        return RunDir(self.study / self.cell.run_id)


def task_of(composed: DictConfig, choices: Mapping[str, str], overrides: Sequence[str] = ()) -> Task:
    """Return a checked configuration (without its `hydra` node) as a task.

    Raises:
        UserError: see `dinodiet.config.schema.check`.
    """
    check(composed)
    own = own_choices(choices)
    cell = Cell(run_id(identity(composed), own), tuple(overrides), own, composed.seed)
    plain = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(plain, dict)
    study = Path(composed.outputs_dir).expanduser() / composed.name
    return Task(cell, study, {str(key): value for key, value in plain.items()}, settings_hash(composed))


def execute(task: Task) -> None:
    """Do the run, or what is missing of it, in this process.

    Raises:
        Exception: as `dinodiet.run.run.run`; the run directory says the same.
    """
    from dinodiet.run.run import run  # noqa: PLC0415 - whoever only plans a sweep needs no torch

    run(OmegaConf.create(task.config), task.cell.choices)


@contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """Send all that this process prints, also from libraries in C, to the end of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = os.dup(1), os.dup(2)
    with path.open("a") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, old in enumerate(saved, start=1):
            os.dup2(old, number)
            os.close(old)
