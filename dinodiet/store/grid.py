"""The grid of a sweep as a list of cells, kept in `outputs/<name>/.sweep/grid.json` for those who come later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dinodiet.io.files import read_json, write_json

FORMAT = 1


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        run_id: name of the run directory.
        overrides: what the command line and the sweep file say for this cell.
        choices: the chosen group files (model, dataset, method).
        seed: the run's seed.
    """

    run_id: str
    overrides: tuple[str, ...]
    choices: dict[str, str]
    seed: int


def grid_path(study: Path) -> Path:
    """Return where the grid of a study (`outputs/<name>`) is kept."""
    return study / ".sweep" / "grid.json"


def write_grid(study: Path, cells: list[Cell]) -> None:
    """Keep the grid of the newest command; run directories of earlier grids stay as they are."""
    write_json(grid_path(study), {"format": FORMAT, "cells": [asdict(cell) for cell in cells]})


def read_grid(study: Path) -> list[Cell]:
    """Return the cells of the newest grid; none where there is no grid, or a half-written one."""
    content = read_json(grid_path(study)) or {}
    try:
        return [_cell(**cell) for cell in content.get("cells", [])]
    except TypeError:
        return []


def _cell(run_id: str, overrides: Iterable[str], choices: Mapping[str, str], seed: int) -> Cell:
    """Return a cell; raises TypeError where something has another type."""
    if not isinstance(choices, Mapping) or isinstance(overrides, str) or not isinstance(seed, int):
        raise TypeError(f"no cell: {run_id}")
    if {*map(type, (run_id, *overrides, *choices, *choices.values()))} != {str}:
        raise TypeError(f"no cell: {run_id}")
    return Cell(run_id, tuple(overrides), dict(choices), seed)


def jobs_path(study: Path) -> Path:
    """Return where the SLURM jobs of a study's cells are kept."""
    return study / ".sweep" / "jobs.json"


def submit_lock(study: Path) -> Path:
    """Return the lock that a command holds while it hands cells of a study to SLURM."""
    return study / ".sweep" / "submit.lock"


def read_jobs(study: Path) -> dict[str, str]:
    """Return the newest SLURM job (such as 12_3) of each cell that was ever submitted, by run id."""
    return {run_id: job for run_id, job in (read_json(jobs_path(study)) or {}).items() if isinstance(job, str)}


def write_jobs(study: Path, jobs: dict[str, str]) -> None:
    """Keep the SLURM jobs of cells with those kept already."""
    write_json(jobs_path(study), {**read_jobs(study), **jobs})
