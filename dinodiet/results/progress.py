"""What running runs say of themselves: step, loss, speed and time left, a line each and a total."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dinodiet.io.files import read_json
from dinodiet.io.units import duration
from dinodiet.results.render import aligned
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import CellStatus


def running_lines(cells: Sequence[CellStatus]) -> list[str]:
    """Return an aligned line for each running run, and their sum where there are several."""
    told = [read_json(RunDir(cell.directory).status) or {} for cell in cells]
    rows = [[cell.run_id, *_numbers(status), _rest(cell, status)] for cell, status in zip(cells, told, strict=True)]
    if len(rows) > 1:
        rows.append([f"{len(rows)} runs", *_numbers(_total(told)), ""])
    return aligned(rows)


def _numbers(status: Mapping[str, Any]) -> list[str]:
    step, total = status.get("step"), status.get("total_steps")
    loss, speed, left = (status.get(name) for name in ("loss", "images_per_second", "seconds_left"))
    return [
        "" if step is None or not total else f"step {step:,} of {total:,}",
        "" if loss is None else f"loss {loss:.4g}",
        "" if speed is None else f"{speed:,.0f} images/s",
        "" if left is None else f"{duration(left)} left",
    ]


def _rest(cell: CellStatus, status: Mapping[str, Any]) -> str:
    phase = status.get("phase")
    job = f"job {cell.slurm_job}" if cell.slurm_job else status.get("host")
    log = RunDir(cell.directory).log
    return "; ".join(filter(None, (phase if phase != "training" else None, job, str(log) if log.exists() else None)))


def _total(told: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the sums of steps and speed, and the time until the last of them is done."""
    known = [status for status in told if status.get("step") is not None and status.get("total_steps")]
    speeds, left = ([one[key] for one in known if one.get(key)] for key in ("images_per_second", "seconds_left"))
    sums = {key: sum(status[key] for status in known) for key in ("step", "total_steps")}
    return {**sums, "images_per_second": sum(speeds) or None, "seconds_left": max(left, default=None)}
