"""The answer of a run that is done already, without what it takes to do one. Imports no torch."""

from __future__ import annotations

from typing import Any

from dinodiet.config.identity import run_id, wanted_scores
from dinodiet.config.settings import Settings
from dinodiet.run import console
from dinodiet.store.rundir import RunDir
from dinodiet.store.scores import lacks, read_results


def run_dir_of(settings: Settings) -> RunDir:
    """Return the directory of the run that the settings describe."""
    return RunDir(settings.study / run_id(settings))


def finished(settings: Settings) -> dict[str, Any] | None:
    """Print and return the results of a training run with all its scores; None where there is something to do.

    Raises:
        UserError: the results are of another version.
    """
    if settings.mode != "train":
        return None
    run_dir = run_dir_of(settings)
    results = read_results(run_dir)
    if results is None or lacks(results, wanted_scores(settings), validation=settings.evaluation.validation):
        return None
    print(f"{run_dir.path.name} is done already")
    missing = [name for name in settings.record if not (run_dir.records / name).is_dir()]
    console.warn(f"record.{name}: not recorded; this run is done, and another name= trains anew" for name in missing)
    print(console.closing(results, run_dir.path), flush=True)
    return results
