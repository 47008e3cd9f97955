"""One run in a terminal: what it is, its state, scores, curves, costs, and why it failed; in 80 columns."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from dinodiet.io.units import duration, energy
from dinodiet.results.curves import VALIDATION, Point
from dinodiet.results.one_run import OneRun
from dinodiet.results.score_rows import ScoreRow
from dinodiet.results.sparklines import levels, sparkline
from dinodiet.store.rundir import RunDir
from dinodiet.store.states import CellState

WIDTH = 80
NAMES = 24  # letters beside numbers; a longer name has a line of its own
CURVE = 30  # letters of a curve
MOST_SETTINGS = 12
HEADER = ("initial", "final", "change", "relative", "95 % of last")


def one_run_text(one: OneRun) -> str:
    """Return all that is told of a run."""
    parts = [_title(one), _settings(one), score_table(one.scores), _skipped(one.skipped), _curves(one.curves)]
    ends = [_costs(one.costs), _codes(one.codes), _error(one)]
    return "\n".join(line for part in [*parts, *ends] for line in part)


def _title(one: OneRun) -> list[str]:
    record = one.run.record
    what = f"{record.get('model', '?')} on {record.get('dataset', '?')} with {record.get('method', '?')}"
    seed = f", seed {record['seed']}" if "seed" in record else ""
    return [*_wrapped(str(one.run.path), ""), *_wrapped(what + seed, "  "), *_wrapped(f"state: {_state(one)}", "  ")]


def _state(one: OneRun) -> str:
    status = one.status
    if status.state is CellState.DONE:
        return "done"
    step = f"step {status.step:,} of {status.total_steps:,}" if status.step is not None and status.total_steps else ""
    left = "" if status.seconds_left is None or one.failed else f"{duration(status.seconds_left)} left"
    return ", ".join(filter(None, (status.state.value, status.phase, step, left)))


def _settings(one: OneRun) -> list[str]:
    if not one.others:
        return ["  settings: no other finished run in its study to differ from"]
    if not one.settings:
        return [f"  settings: as in the {one.others} other finished runs of its study, as far as tables tell"]
    told = [f"{key}={value}" for key, value in one.settings.items()]
    more = [f"and {len(told) - MOST_SETTINGS} more"] if len(told) > MOST_SETTINGS else []
    lines = [line for item in [*told[:MOST_SETTINGS], *more] for line in _wrapped(item, "    ")]
    return ["  settings that differ in its study:", *lines]


def score_table(rows: Sequence[ScoreRow]) -> list[str]:
    """Return a header and a line for each score: before, after, change, relative change, interval; no lines of none."""
    if not rows:
        return []
    lines = ["", f"  {'test score':<{NAMES}}" + "".join(f"  {name:>7}" for name in HEADER)]
    for row in rows:
        name = [] if len(row.name) <= NAMES else _wrapped(row.name, "  ")
        lines += [*name, f"  {'' if name else row.name:<{NAMES}}{_numbers(row)}"]
        lines += _wrapped(f"not compared: {row.refused}", "    ") if row.refused else []
    return lines


def _numbers(row: ScoreRow) -> str:
    interval = "" if row.interval is None else f"  [{row.interval[0]:.3f}, {row.interval[1]:.3f}]"
    relative = f"{'-':>8}" if row.relative is None or math.isnan(row.relative) else f"{row.relative:+7.1f}%"
    return "".join([_score(row.initial), _score(row.final), _score(row.change, "+"), f"  {relative}", interval])


def _score(value: float | None, sign: str = "") -> str:
    if value is None or math.isnan(value):
        return f"  {'-' if value is None else 'missing':>7}"
    return f"  {value:{sign}7.3f}"


def _skipped(skipped: Mapping[str, str]) -> list[str]:
    return [line for name, reason in skipped.items() for line in _wrapped(f"{name} is left out: {reason}", "  ")]


def _curves(curves: Mapping[str, Sequence[Point]]) -> list[str]:
    """Return a line for each curve of at least two points: first and last value, and its shape."""
    shown = {name.removeprefix(VALIDATION): line for name, line in curves.items() if len(line) > 1}
    if not shown:
        return []
    lines, letters = ["", "  over epochs: what is logged, and scores on validation"], levels()
    for name, line in shown.items():
        values = [value for _, value in line]
        ends = f"{values[0]:>8.4g} -> {values[-1]:<8.4g}"
        above = [] if len(name) <= NAMES else _wrapped(name, "  ")
        lines += [*above, f"  {'' if above else name:<{NAMES}}  {ends}  {sparkline(values, CURVE, letters)}".rstrip()]
    return lines


def _costs(costs: Mapping[str, float]) -> list[str]:
    if not costs:
        return []
    steps = costs.get("steps")
    told = [
        "nothing was trained" if steps == 0 else "" if steps is None else f"{steps:,.0f} steps",
        duration(costs["train_seconds"]) if steps and "train_seconds" in costs else "",
        f"{costs['images_per_second']:,.0f} images/s" if "images_per_second" in costs else "",
        f"peak memory {costs['peak_memory_mb']:,.0f} MiB" if "peak_memory_mb" in costs else "",
        f"{duration(3600 * costs['device_hours'])} of device time in all" if "device_hours" in costs else "",
        energy(costs["energy_kwh"]) if "energy_kwh" in costs else "",
    ]
    return ["", *_wrapped(f"cost: {', '.join(filter(None, told))}", "  ")]


def _codes(codes: Sequence[str]) -> list[str]:
    """Return a line about a run that one code began and another finished."""
    if len(codes) < 2:
        return []
    return _wrapped(f"code: finished by {codes[0]}, from a checkpoint of other code: {', '.join(codes[1:])}", "  ")


def _error(one: OneRun) -> list[str]:
    """Return the end of what a run failed with, and where more is to be read."""
    if not one.error:
        return []
    log = RunDir(one.run.path).log
    lines = [part for line in one.error for part in _wrapped(line, "    ")]
    return ["", "  why it ended:", *lines, *(_wrapped(f"log: {log}", "  ") if log.exists() else [])]


def _wrapped(line: str, indent: str) -> list[str]:
    """Return a line in as many as it takes, each indented; a word that is longer than a line is broken."""
    own = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line.lstrip(), WIDTH, initial_indent=indent + own, subsequent_indent=f"{indent}{own}  ", break_on_hyphens=False
    )
