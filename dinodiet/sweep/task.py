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

from dinodiet.config.gate import gate
from dinodiet.config.identity import run_id, settings_hash, wanted_scores
from dinodiet.config.settings import Settings
from dinodiet.store.grid import Cell
from dinodiet.store.rundir import RunDir


@dataclass(frozen=True)
class Task:
    """One cell of a sweep.

    Attributes:
        cell: what it is.
        study: `outputs/<name>`.
        config: the composed configuration as plain values. Interpolations stay: paths may differ on another machine.
        settings_hash: of all settings; see `dinodiet.config.identity.settings_hash`.
        wanted: names of the scores that it asks for.
        validation: whether these are wanted on the validation split too.
    """

    cell: Cell
    study: Path
    config: dict[str, Any]
    settings_hash: str | None = None
    wanted: tuple[str, ...] = ()
    validation: bool = False

    @property
    def run_dir(self) -> RunDir:
        """The directory of the run."""
        return RunDir(self.study / self.cell.run_id)

    def settings(self, *, quiet: bool = False) -> Settings:
        """Return the settings of the run; paths follow this machine. `quiet`: what is to be told about them was.

        Raises:
            UserError: see `dinodiet.config.gate.gate`.
        """
        return gate(OmegaConf.create(self.config), self.cell.choices, self.cell.overrides, quiet=quiet)


def task_of(composed: DictConfig, choices: Mapping[str, str], overrides: Sequence[str] = ()) -> Task:
    """Return a checked configuration (without its `hydra` node) as a task.

    Raises:
        UserError: see `dinodiet.config.gate.gate`.
    """
    settings = gate(composed, choices, overrides, quiet=True)  # it is told when the task is done
    plain = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(plain, dict)
    return task_with(settings, {str(key): value for key, value in plain.items()}, overrides)


def task_with(settings: Settings, plain: dict[str, Any], overrides: Sequence[str]) -> Task:
    """Return the task of checked settings; `plain` is their configuration, interpolations as they are written."""
    cell = Cell(run_id(settings), tuple(overrides), settings.choices, settings.seed)
    if settings.schedule.steps is not None:  # in place of minutes: the rate is looked up once
        plain["schedule"] = {**plain["schedule"], "steps": settings.schedule.steps, "minutes": None}
    wanted, validation = tuple(wanted_scores(settings)), settings.evaluation.validation
    return Task(
        cell,
        settings.study,
        plain,
        settings_hash(settings),
        wanted,
        validation,
    )


def execute(task: Task) -> None:
    """Do the run, or what is missing of it, in this process.

    Raises:
        Exception: as `dinodiet.run.run.run`; the run directory says the same.
    """
    from dinodiet.run.run import run  # noqa: PLC0415 - whoever only plans a sweep needs no torch

    run(task.settings())


@contextmanager
def printing_to(path: Path) -> Iterator[None]:
    """Send all that this process prints, also from libraries in C, to the end of a file; or leave it where it goes.

    A file that cannot be written costs the log: the run says itself what it cannot write.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = path.open("a")
    except OSError:
        yield
        return
    saved = os.dup(1), os.dup(2)
    with stream:
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
