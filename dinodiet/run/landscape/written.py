"""What is kept of a landscape: a table of its points, the path of the training, and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.io.files import atomic_file
from dinodiet.run.landscape.landscape import MeasuredPlane, folder_of, named, part_names, parts_folder
from dinodiet.run.landscape.picture import draw
from dinodiet.store.rundir import RunDir

TABLE, PATH, PICTURE = "landscape.csv", "path.csv", "landscape.png"
PLACE = ["point", "x", "y"]
ABSENT = "not measured yet"


def finish(settings: Settings, built: MeasuredPlane | None = None, failed: Sequence[str] = ()) -> dict[str, Any]:
    """Write the table, the path and the picture of what has been measured, and print where they lie.

    Args:
        settings: of the landscape.
        built: its plane, where it is there already.
        failed: what is told of points that failed; none: what the table says.

    Raises:
        UserError: points are missing; they are named.
    """
    plane, folder = built or MeasuredPlane(settings), folder_of(settings)
    frame, path = table(settings, plane.grid), pd.DataFrame(plane.path())
    _write(frame, folder / TABLE)
    _write(path, folder / PATH)
    draw(frame, path, str(settings.method["loss"].get("kind", "ce")), folder / PICTURE)
    missing = frame["failure"].notna()
    print(f"landscape of {plane.own.path.name}: {(~missing).sum():,} of {len(frame):,} points measured")
    print(f"  {TABLE}, {PATH} and {PICTURE} in {folder}", flush=True)
    if missing.any():
        told = "; ".join(failed) or named([dict(row) for row in frame[missing].to_dict("records")])
        raise UserError(f"mode=landscape: {told}; the same command measures them again")
    return {"folder": str(folder), "points": len(frame)}


def table(settings: Settings, grid: Sequence[tuple[float, float]]) -> pd.DataFrame:
    """Return a row for each point of the grid; of one that was not measured all but the place is NaN, and it says why.

    Columns: point, x, y, what was measured, failure.
    """
    run_dirs = [RunDir(parts_folder(settings) / name) for name in part_names(settings)]
    rows = {row["step"]: row for run_dir in run_dirs for row in run_dir.read_metrics()}
    found = [
        {**rows.get(number, {"failure": ABSENT}), "point": number, "x": x, "y": y} for number, (x, y) in enumerate(grid)
    ]
    frame = pd.DataFrame(found)
    measured = [name for name in frame.columns if name not in (*PLACE, "step", "failure")]
    ordered: pd.DataFrame = frame[[*PLACE, *measured, "failure"]]
    return ordered


def _write(frame: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as unfinished:
        frame.to_csv(unfinished, index=False)
