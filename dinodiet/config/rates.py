"""Equal time: the steps of a training from the time that it may take, and from the rate that was measured of it.

Rates lie in one file of the study, written by mode=measure. A training of so many minutes is one of so many steps: it
is resumed, repeated and named as any other, and does not look at the clock.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from dinodiet.config.identity import rate_id, trains
from dinodiet.config.settings import Settings, from_plain
from dinodiet.errors import UserError, one_line
from dinodiet.io.documents import yaml_text
from dinodiet.io.files import write_atomically, write_text

FILE = "rates.yaml"
HEADER = """\
# Seconds of a training step, measured by mode=measure. Runs with schedule.minutes take their steps from here: what is
# here is not measured again, and a line that is changed or measured again makes other runs of them.
"""
WITHOUT = ("measure", "fetch")  # modes that need no length


@dataclass(frozen=True)
class Rate:
    """The mean `seconds` of a step over a training, the steps of an epoch, and the device that it was measured on."""

    seconds: float
    steps_per_epoch: int
    device: str

    def steps_in(self, minutes: float) -> int:
        """Return the steps that so many minutes are; one at least."""
        return max(round(60 * minutes / self.seconds), 1)


def read_rates(study: Path) -> dict[str, Rate]:
    """Return the rates that a study knows, by `rate_id`.

    Raises:
        UserError: the file is broken; names it.
    """
    path = study / FILE
    try:
        found: Any = yaml.safe_load(yaml_text(path)) or {}
        rates = {str(name): Rate(**value) for name, value in found.items()}
        assert all(rate.seconds > 0 for rate in rates.values())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UserError as error:
        raise UserError(f"{error}; remove it, and measure again") from error
    except (AttributeError, TypeError, AssertionError) as error:
        raise UserError(f"{path}: no file of rates ({one_line(error)}); remove it, and measure again") from error
    return rates


def write_rate(study: Path, name: str, rate: Rate) -> None:
    """Add a rate to those of a study."""
    study.mkdir(parents=True, exist_ok=True)
    rates = {key: asdict(value) for key, value in {**read_rates(study), name: rate}.items()}
    text = HEADER + yaml.safe_dump(rates, sort_keys=True, default_flow_style=None, width=200)
    write_atomically(study / FILE, lambda stream: write_text(stream, text))


def in_steps(settings: Settings) -> Settings:
    """Return settings whose length in minutes is one in steps; others as they are.

    Raises:
        UserError: the rate of such a training was not measured.
    """
    minutes = settings.schedule.minutes
    if minutes is None or settings.mode in WITHOUT or not trains(settings):
        return settings
    name = rate_id(settings)
    rate = read_rates(settings.study).get(name)
    if rate is None:
        where = settings.study / FILE
        raise UserError(
            f"schedule.minutes: {minutes:g}, but {where} has no rate of {name}; "
            "the same command with mode=measure adds it"
        )
    schedule = {**settings.plain["schedule"], "steps": rate.steps_in(minutes), "minutes": None}
    return from_plain({**settings.plain, "schedule": schedule}, settings.choices)
