"""What trackers are told of a run besides its metrics: its configuration, and what it is called by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dinodiet.results.record import labels

CHOICES = "choices"  # beside the keys of the configuration


def tracked_config(config: Mapping[str, Any], choices: Mapping[str, str]) -> dict[str, Any]:
    """Return a run's configuration with the group files that it was composed of, as `config.yaml` holds both."""
    return {**config, CHOICES: dict(choices)}


def called(run_id: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Return what a run is called by: study, model with its size, dataset, method, seed; as far as it is told."""
    found = {"study": str(config["name"])} if "name" in config else {}
    choices = config.get(CHOICES, {})
    if {"model", "dataset", "method"} <= set(choices):
        model, dataset = labels(run_id, choices)
        found |= {"model": model, "dataset": dataset, "method": str(choices["method"])}
    return found | ({"seed": str(config["seed"])} if "seed" in config else {})


def tags_of(names: Mapping[str, str], own: Sequence[str], longest: int) -> list[str]:
    """Return tags of one's own and those by which a run is called (`seed=0`), each once, cut at `longest` letters."""
    said = [f"seed={value}" if key == "seed" else value for key, value in names.items()]
    return [*dict.fromkeys([*own, *(tag[:longest] for tag in said)])]


def typed(rows: Sequence[Sequence[str]]) -> list[list[str | float | None]]:
    """Return rows of a CSV file with columns of numbers as numbers; their empty cells are None."""
    columns = [_column(column) for column in zip(*rows, strict=True)]
    return [list(row) for row in zip(*columns, strict=True)]


def _column(cells: Sequence[str]) -> list[str | float | None]:
    try:
        return [float(cell) if cell else None for cell in cells]
    except ValueError:
        return list(cells)
