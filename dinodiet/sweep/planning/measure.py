"""mode=measure: how long a step of every training of a grid takes on this machine, for runs of equal time."""

from __future__ import annotations

from collections.abc import Sequence

from dinodiet.config.identity import rate_id, trains
from dinodiet.config.rates import FILE, Rate, read_rates, write_rate
from dinodiet.config.settings import Settings
from dinodiet.run.rate import measured_rate
from dinodiet.sweep.task import Task


def measure(tasks: Sequence[Task]) -> None:
    """Measure what is not in the study's file of rates yet, write each rate there, and print all that the grid needs.

    Seeds and lengths share a rate. What is there is not measured again, so that runs keep their names.

    Raises:
        UserError: a training cannot be built; rates measured before it are kept.
    """
    study, wanted = tasks[0].study, _wanted(tasks)
    known = read_rates(study)
    print(f"{study / FILE}: {len(wanted)} trainings, {len(known.keys() & wanted)} of them measured before", flush=True)
    width = max(map(len, wanted), default=0)
    for name, settings in wanted.items():
        if name not in known:
            known[name] = measured_rate(settings)
            write_rate(study, name, known[name])
        print(f"  {name:<{width}}  {_told(known[name], settings.schedule.minutes)}", flush=True)


def _wanted(tasks: Sequence[Task]) -> dict[str, Settings]:
    """Return the settings of one run of each rate, of those that train."""
    found: dict[str, Settings] = {}
    for task in tasks:
        settings = task.settings()
        if trains(settings):
            found.setdefault(rate_id(settings), settings)
    return found


def _told(rate: Rate, minutes: float | None) -> str:
    told = f"{1000 * rate.seconds:,.1f} ms a step, {rate.steps_per_epoch:,} steps an epoch, {rate.device}"
    if minutes is None:
        return told
    steps = rate.steps_in(minutes)
    return f"{told}: {minutes:g} minutes are {steps:,} steps, {steps / rate.steps_per_epoch:,.1f} epochs"
