"""What running runs say of themselves: step, loss, speed and time left, a line each and a total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dinodiet.io.units import duration
from dinodiet.results.render import aligned
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import CellStatus


def running_lines(cells: Sequence[CellStatus]) -> list[str]:
    """Return an aligned line for each running run, and their sum where there are several."""
    rows = [[cell.run_id, *_numbers(cell), _rest(cell)] for cell in cells]
    if len(rows) > 1:
        rows.append([f"{len(rows)} runs", *_numbers(_total(cells)), ""])
    return aligned(rows)


def _numbers(cell: CellStatus) -> list[str]:
    step, total, loss = cell.step, cell.total_steps, cell.loss
    return [
        "" if step is None or not total else f"step {step:,} of {total:,}",
        "" if loss is None else f"loss {loss:.4g}",
        "" if cell.images_per_second is None else f"{cell.images_per_second:,.0f} images/s",
        "" if cell.seconds_left is None else f"{duration(cell.seconds_left)} left",
    ]


def _rest(cell: CellStatus) -> str:
    log = RunDir(cell.directory).log
    phase = cell.phase if cell.phase != "training" else None
    job = f"job {cell.slurm_job}" if cell.slurm_job else None
    return "; ".join(filter(None, (phase, job, str(log) if log.exists() else None)))


def _total(cells: Sequence[CellStatus]) -> CellStatus:
    """Return the sums of steps and speed, and the time until the last of them is done."""
    known = [(cell.step, cell.total_steps) for cell in cells if cell.step is not None and cell.total_steps]
    step, total = (sum(numbers) for numbers in zip(*known, strict=True)) if known else (None, None)
    speeds = [cell.images_per_second for cell in cells if cell.images_per_second is not None]
    left = [cell.seconds_left for cell in cells if cell.seconds_left is not None]
    return replace(
        cells[0], step=step, total_steps=total, loss=None,
        images_per_second=sum(speeds) or None, seconds_left=max(left, default=None),
    )  # fmt: skip
