"""What runs are expected to take, against sums by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dinodiet.errors import UserError
from dinodiet.store.states import CellState, CellStatus
from dinodiet.sweep.planning.estimate import Estimate
from dinodiet.sweep.planning.expected import expected_lines, limit_minutes
from dinodiet.sweep.planning.pace import Pace

GPU = "cuda (NVIDIA H100)"
PACE = Pace(step=1.8, device=GPU, rest=1800, devices=2, watts=1000)  # of 1,000 steps: an hour, two device hours, 1 kWh


def run(state: CellState, step: int | None = None, steps: int = 1000, pace: Pace | None = PACE) -> Any:
    seconds = None if pace is None else steps * pace.step
    return CellStatus("run", state, Path(), step=step), Estimate(steps, seconds=seconds, pace=pace)


def test_whole_runs_are_counted_and_what_is_left_of_them() -> None:
    runs = [
        run(CellState.DONE),
        run(CellState.STOPPED, step=250),
        run(CellState.MISSING),
        run(CellState.MISSING, pace=None),
    ]
    times, costs = expected_lines(runs, "asked")
    assert times == (
        f"1 h 30 min of training in all, 52 min 30 s of it to do, at rates measured on {GPU}; "
        "1 runs have no measured rate"
    )
    assert costs == (
        "6 device hours in all, 3.5 of them to do, 3.0 kWh in all, 1.8 kWh to do: with starts and scores, "
        "as the last run of each kind took; of 1 runs nothing tells"
    )


def test_energy_is_left_out_where_nothing_tells() -> None:
    _, costs = expected_lines([run(CellState.MISSING, pace=Pace(1.8, GPU, rest=1800))], "asked")
    assert costs == "1 device hours in all, 1 of them to do: with starts and scores, as the last run of each kind took"
    (times,) = expected_lines([run(CellState.MISSING, pace=Pace(1.8, GPU))], "asked")
    assert times.startswith("30 min 0 s of training in all")
    (unknown,) = expected_lines([run(CellState.MISSING, pace=None)], "any GPU")
    assert unknown.startswith("time unknown") and unknown.endswith("tells a rate on any GPU")
    assert expected_lines([], "asked") == []


@pytest.mark.parametrize(
    ("steps", "minutes"),
    [([1000], 130), ([0], 70), ([1000, 3000], 250)],  # 60, 30 and 120 minutes: twice that, ten more, whole tens
)
def test_a_limit_is_twice_what_the_longest_takes(steps: list[int], minutes: int) -> None:
    assert limit_minutes([Estimate(number, pace=PACE) for number in steps]) == minutes


def test_a_limit_is_unknown_where_one_run_is() -> None:
    known = Estimate(1000, pace=PACE)
    for unknown in (
        Estimate(None, pace=PACE),
        Estimate(1000),
        Estimate(1000, pace=Pace(1.8, GPU)),
        UserError("refused"),
    ):
        assert limit_minutes([known, unknown]) is None
    assert limit_minutes([]) is None
