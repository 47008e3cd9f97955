"""Runs without results, as records: what they are is read from their configuration, for curves of what they log."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dinodiet.errors import UserError
from dinodiet.io.documents import yaml_text
from dinodiet.results.record import identity
from dinodiet.results.runs import Run
from dinodiet.store.grid import read_grid
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import state_of


def unfinished(runs: Iterable[Run]) -> list[Run]:
    """Return the runs that have a configuration, with all that it says; the rest has not begun to log."""
    found, choices = [], dict[Path, dict[str, dict[str, str]]]()
    for run in runs:
        config = read_config(RunDir(run.path).config)
        if config is None:
            continue
        if run.study not in choices:
            choices[run.study] = {cell.run_id: cell.choices for cell in read_grid(run.study)}
        chosen = config.pop("choices", None) or choices[run.study].get(run.name) or _named(run.name)
        record = {**identity(run.name, chosen, config.get("seed", 0), config), **run.record}
        found.append(Run(run.study, run.name, record, state_of(RunDir(run.path)).state.value))
    return found


def read_config(path: Path) -> dict[str, Any] | None:
    """Return the configuration that a run wrote down, or None where there is none yet."""
    import yaml  # noqa: PLC0415 - tables do without

    try:
        content = yaml.safe_load(yaml_text(path))
    except (OSError, UserError, yaml.YAMLError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _named(run_id: str) -> Mapping[str, str]:
    """Return the choices that a name tells, where neither configuration nor grid does."""
    parts = re.match(r"(.+)_([^_]+)_([^_]+)_seed\d+", run_id)
    names = parts.groups() if parts else (run_id, "-", "-")
    return dict(zip(("model", "dataset", "method"), names, strict=True))
