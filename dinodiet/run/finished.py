"""The answer of a run that is done already, without what it takes to do one. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from dinodiet.config.schema import identity, own_choices, run_id
from dinodiet.io.files import read_json
from dinodiet.run import console as report
from dinodiet.store.rundir import RunDir


def run_dir_of(cfg: DictConfig, choices: Mapping[str, Any]) -> RunDir:
    """Return the directory of the run that a configuration describes."""
    return RunDir(Path(cfg.outputs_dir).expanduser() / cfg.name / run_id(identity(cfg), own_choices(choices)))


def finished(cfg: DictConfig, choices: Mapping[str, Any]) -> dict[str, Any] | None:
    """Print and return the results of a training run that is done; None where there is something to do."""
    if cfg.mode != "train":
        return None
    run_dir = run_dir_of(cfg, choices)
    results = read_json(run_dir.results)
    if results is not None:
        print(f"{run_dir.path.name} is done already")
        print(report.closing(results, run_dir.path), flush=True)
    return results
