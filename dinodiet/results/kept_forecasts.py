"""Forecasts, written before runs end: `forecast.json` in the study, one a run and metric, never changed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from dinodiet.errors import UserError
from dinodiet.io.files import is_number, read_json, write_json

FORMAT = 1
NAME = "forecast.json"


@dataclass(frozen=True)
class Forecast:
    """The gain that is expected of a run.

    Attributes:
        run: its run directory.
        metric: whose change it is; a gain is positive where the metric got better.
        gain: expected.
        probability: that it is above 0.
        base: the base rate: the mean gain of its method on other data sets.
        cells: how many finished cells it was fitted on.
        better: whether such forecasts beat the base rate on data sets that were left out.
        measures: what it was made from.
        written: seconds since the epoch.
    """

    run: str
    metric: str
    gain: float
    probability: float
    base: float
    cells: int
    better: bool
    measures: dict[str, float]
    written: float

    @property
    def digest(self) -> str:
        """A hash of all of it, by which a later change is found."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def read_forecasts(study: Path) -> list[Forecast]:
    """Return the forecasts of a study, in the order in which they were written.

    Raises:
        UserError: the file is broken, or an entry of it was changed after it was written.
    """
    path = study / NAME
    if not path.exists():
        return []
    content = read_json(path)
    if content is None or content.get("format") != FORMAT or not isinstance(content.get("forecasts"), list):
        raise UserError(f"{path}: no forecasts of this version can be read in it; put it elsewhere to begin anew")
    return [_entry(path, entry) for entry in content["forecasts"]]


def _entry(path: Path, entry: Any) -> Forecast:
    try:
        plain = {name: value for name, value in entry.items() if name != "digest"}
        found = Forecast(**plain)
        right = found.digest == entry["digest"] and is_number(found.gain) and isinstance(found.run, str)
    except (TypeError, KeyError, AttributeError, ValueError):
        right = False
    if not right:
        told = entry.get("run") if isinstance(entry, dict) else entry
        raise UserError(f"{path}: the forecast of {str(told)[:80]} was changed after it was written; it counts no more")
    return found


def add_forecasts(study: Path, forecasts: Iterable[Forecast]) -> list[Forecast]:
    """Keep the forecasts of runs and metrics that have none yet, and return all that there are.

    Raises:
        UserError: as `read_forecasts`.
        OSError: the file cannot be written.
    """
    with FileLock(_lock(study)):  # two commands at once
        kept = read_forecasts(study)
        known = {(one.run, one.metric) for one in kept}
        new = [one for one in forecasts if (one.run, one.metric) not in known]
        if new:
            entries = [{**asdict(one), "digest": one.digest} for one in [*kept, *new]]
            write_json(study / NAME, {"format": FORMAT, "forecasts": entries})
    return [*kept, *new]


def _lock(study: Path) -> Path:
    folder = study / ".sweep"
    folder.mkdir(exist_ok=True)
    return folder / "forecast.lock"
