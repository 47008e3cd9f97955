"""What runs recorded while they trained (`record=[...]`): a tidy frame, curves, and the first and last values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from dinodiet.errors import UserError
from dinodiet.results.curves import by_epoch
from dinodiet.results.render import grid
from dinodiet.results.runs import Run
from dinodiet.results.table import Layout
from dinodiet.results.tidy import run_frame
from dinodiet.store.rundir import RunDir

SHOWN = ("column", "runs", "first", "last")
MOST_PANELS = 24  # of a figure


def recorded(runs: Sequence[Run], record: str, patterns: Sequence[str] = (), keys: Sequence[str] = ()) -> pd.DataFrame:
    """Return a row for each number that runs recorded: what the run is (`run_frame`), step, epoch, column, value.

    `patterns` choose columns: `model/student/norm`, `*/norm`; none: all. A run that lacks a column has no rows of it.

    Raises:
        UserError: no run has such a record or column, or it holds lists; without pyarrow.
    """
    those = [run for run in runs if _folder(run, record).is_dir()]
    if not those:
        there = sorted({path.name for run in runs for path in RunDir(run.path).records.glob("*") if path.is_dir()})
        raise UserError(f"--record {record}: no run has it; choose from: {', '.join(there) or 'nothing was recorded'}")
    frames = [_numbers(run, record, patterns) for run in those]
    if patterns and not any(map(len, frames)):
        known = ", ".join(_columns(those, record))
        raise UserError(f"--columns {','.join(patterns)}: no such column; choose from: {known}")
    what = run_frame(those, keys or None)
    counts = [len(frame) for frame in frames]
    repeated = what.loc[what.index.repeat(counts)].reset_index(drop=True)
    whole: pd.DataFrame = pd.concat([repeated, pd.concat(frames, ignore_index=True)], axis=1)
    return whole


def overview(frame: pd.DataFrame) -> str:
    """Return the first and the last value of each column as a table, means over runs."""
    ordered = frame.dropna(subset="value").sort_values("step", kind="stable")
    ends = ordered.groupby(["column", "study", "run"], sort=False)["value"].agg(["first", "last"]).reset_index()
    rows = [
        [str(column), str(len(part)), f"{part['first'].mean():.4g}", f"{part['last'].mean():.4g}"]
        for column, part in ends.groupby("column", sort=False)
    ]
    return grid(list(SHOWN), rows, "text")


def record_curves(
    runs: Sequence[Run], record: str, patterns: Sequence[str], plan: Layout
) -> tuple[pd.DataFrame, Layout]:
    """Return recorded numbers by epoch, means over the layout's `over`, and a layout with a panel a column.

    Raises:
        UserError: as `recorded`; more panels than can be read.
    """
    frame = recorded(runs, record, patterns, plan.choices)
    if (count := frame["column"].nunique()) > MOST_PANELS:
        raise UserError(f"--columns: {count} columns are more panels than the {MOST_PANELS} of a figure; choose some")
    wide = replace(plan, cols=(*plan.cols, "column"))
    return by_epoch(frame, wide.choices), wide


def _folder(run: Run, record: str) -> Path:
    return RunDir(run.path).records / record


def _columns(runs: Sequence[Run], record: str) -> list[str]:
    """Return the columns of a record.

    Raises:
        UserError: without pyarrow, or where it holds lists.
    """
    try:
        from dinodiet.store.records import columns_of, lists_of  # noqa: PLC0415 - pyarrow is an extra
    except ImportError as error:
        raise UserError("--record: Parquet needs pyarrow: pip install 'dinodiet[parquet]'") from error
    folders = [_folder(run, record) for run in runs]
    if any(map(lists_of, folders)):
        how = f"pandas.read_parquet({str(folders[0])!r}) reads it"
        raise UserError(f"--record {record}: holds lists, a row an image; {how}")
    return list(dict.fromkeys(name for folder in folders for name in columns_of(folder)))


def _numbers(run: Run, record: str, patterns: Sequence[str]) -> pd.DataFrame:
    names = [
        name
        for name in _columns([run], record)
        if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    from dinodiet.store.records import read_record  # noqa: PLC0415

    wide: pd.DataFrame = read_record(_folder(run, record), names).to_pandas()
    if not names:
        return pd.DataFrame({"step": [], "epoch": [], "column": [], "value": []})
    tidy: pd.DataFrame = wide.melt(["step", "epoch"], names, "column", "value").dropna(subset="value")
    return tidy
