"""What a study has cost, and what its unfinished runs are expected to take: `--cost`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dinodiet.results.endings import Style
from dinodiet.results.plan import planned
from dinodiet.results.record import MACHINE
from dinodiet.results.render import grid
from dinodiet.results.runs import Found, Run
from dinodiet.results.tidy import Where, select
from dinodiet.results.unfinished import unfinished
from dinodiet.store.rundir import RunDir
from dinodiet.store.spent import spent_in
from dinodiet.store.status import read_status

KEYS = ("model", "dataset", "method")
HEADER = (*KEYS, "device", "runs", "done", "device hours", "training", "kWh", "device hours left", "kWh left")
Kind = tuple[str, ...]


@dataclass(frozen=True)
class RunCost:
    """What a run has cost so far; None is unknown.

    Attributes:
        kind: model, dataset and method.
        done: whether it is finished.
        hours: times devices: all its starts, whatever they did.
        training: those of the steps of a finished run that were kept, times devices.
        energy: kWh.
        device: what a finished run ran on.
        left: the part of its steps that is to do; 0 of a finished run.
    """

    kind: Kind
    done: bool
    hours: float | None
    training: float | None
    energy: float | None
    device: str | None
    left: float


@dataclass(frozen=True)
class Cost:
    """What a study has cost.

    Attributes:
        rows: one for each model, dataset and method, and last the sum; hours and kWh are nan where no run tells.
        notes: what the numbers leave out, and what is to do.
    """

    rows: pd.DataFrame
    notes: list[str]


def cost(found: Found, where: Where | None = None) -> Cost:
    """Return what the runs found have cost.

    Raises:
        UserError: an unknown column in `where`, or a value that no run has.
    """
    waiting, _ = planned(found)
    cells = {(run.study, run.name) for run in waiting}
    others = unfinished(run for run in found.unfinished if (run.study, run.name) not in cells)
    costs = [_cost_of(run) for run in select([*found.runs, *waiting, *others], where or {})]
    kinds: dict[Kind, list[RunCost]] = {}
    for one in costs:
        kinds.setdefault(one.kind, []).append(one)
    rows = [_row(kind, kinds[kind]) for kind in sorted(kinds)]
    frame = pd.DataFrame([*rows, _total(rows, costs)], columns=list(HEADER))
    return Cost(frame, [*_unknown(costs), *_left(kinds, frame.iloc[-1])])


def cost_text(found: Cost, style: Style = "text") -> str:
    """Return the table."""
    rows = [[_told(value) for value in row] for row in found.rows.itertuples(index=False)]
    return grid(HEADER, rows, style)


def _cost_of(run: Run) -> RunCost:
    kind = tuple(str(run.record[key]) for key in KEYS)
    if run.state == "done":
        hours, energy, seconds = (_number(run, name) for name in ("device_hours", "energy_kwh", "train_seconds"))
        training = None if seconds is None else seconds * float(run.record.get(f"{MACHINE}processes") or 1) / 3600
        return RunCost(kind, True, hours, training, energy, _device(run), 0.0)
    status = read_status(RunDir(run.path)) or {}
    spent = spent_in(status)
    begun = spent is not None or status.get("starts", 0) > 0
    step, steps = status.get("step") or 0, status.get("total_steps") or 0
    left = 1 - min(step / steps, 1.0) if steps else 1.0
    known = (None, None) if spent is None else (spent.device_hours, spent.energy_kwh)
    return RunCost(kind, False, known[0] if begun else 0.0, None, known[1] if begun else 0.0, None, left)


def _number(run: Run, name: str) -> float | None:
    value = run.record.get(f"final/{name}")
    return None if value is None else float(value)


def _device(run: Run) -> str:
    """Return what a run ran on: the name of its GPU, or CPU."""
    device = str(run.record.get(f"{MACHINE}device"))
    return device.partition("(")[2].rstrip(")") if device.startswith("cuda") else "CPU"


def _row(kind: Kind, costs: Sequence[RunCost]) -> dict[str, Any]:
    """Return what runs of one kind have cost, and what the unfinished ones of them take as the finished ones did."""
    done, left = [one for one in costs if one.done], sum(one.left for one in costs)
    hours, energy = _mean(one.hours for one in done), _mean(one.energy for one in done)
    return {
        **dict(zip(KEYS, kind, strict=True)),
        **_sums(costs),
        "device hours left": 0.0 if not left else None if hours is None else left * hours,
        "kWh left": 0.0 if not left else None if energy is None else left * energy,
    }


def _sums(costs: Sequence[RunCost]) -> dict[str, Any]:
    return {
        "device": ", ".join(sorted({one.device for one in costs if one.device is not None})),
        "runs": len(costs),
        "done": sum(one.done for one in costs),
        "device hours": _sum(one.hours for one in costs),
        "training": _sum(one.training for one in costs),
        "kWh": _sum(one.energy for one in costs),
    }


def _total(rows: Sequence[dict[str, Any]], costs: Sequence[RunCost]) -> dict[str, Any]:
    sums = {name: _sum(row[name] for row in rows) for name in ("device hours left", "kWh left")}
    return {"model": "all", "dataset": "", "method": "", **_sums(costs), **sums}


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _sum(values: Iterable[float | None]) -> float | None:
    """Return the sum of what is known; None where nothing is."""
    known = _known(values)
    return sum(known) if known else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return sum(known) / len(known) if known else None


def _unknown(costs: Sequence[RunCost]) -> list[str]:
    """Say of how many runs the sums do not know."""
    notes = []
    for what, values in (("hours", [one.hours for one in costs]), ("energy", [one.energy for one in costs])):
        if missing := values.count(None):
            notes.append(
                f"{what} of {missing} of {len(costs)} runs are unknown, and in no sum".replace("energy", "kWh")
            )
    return notes


def _left(kinds: dict[Kind, list[RunCost]], total: pd.Series[Any]) -> list[str]:
    """Say what the unfinished runs are expected to take, and of how many nothing tells."""
    waiting = [one for costs in kinds.values() for one in costs if not one.done]
    if not waiting:
        return []
    told = {kind for kind, costs in kinds.items() if any(one.done and one.hours is not None for one in costs)}
    alone = sum(one.kind not in told for one in waiting)
    without = f"; {alone} of them are of a kind of which no finished run tells" if alone else ""
    hours, energy = _told(total["device hours left"]), _told(total["kWh left"])
    of = "as finished runs of the same model, dataset and method took"
    return [
        f"{len(waiting)} unfinished runs are expected to take {hours} device hours, {energy} kWh more, {of}{without}"
    ]


def _told(value: Any) -> str:
    """Return a cell: a figure of two digits or more, `-` where it is unknown."""
    if isinstance(value, (str, int)):
        return str(value)
    if value is None or pd.isna(value):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2g}"
