"""Settings that were found for one dataset with one method, and the schedule that they were found with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode

from dinodiet.errors import UserError


def with_tuned(choices: Mapping[str, Any], loader: ConfigLoader) -> dict[str, Any]:
    """Return the choices with the `tuned` file that was applied: the default one need not exist, and is then none.

    Raises:
        UserError: as `check_tuned`.
    """
    check_tuned(choices, loader)
    there = choices.get("tuned") in loader.get_group_options("tuned")
    return {**choices, "tuned": choices["tuned"] if there else "none"}


def check_tuned(choices: Mapping[str, Any], loader: ConfigLoader) -> None:
    """Refuse a `tuned` choice that does not exist (Hydra passes over it), or one made for another schedule.

    Raises:
        UserError: names the choice and what to do.
    """
    options = loader.get_group_options("tuned")
    tuned, method, schedule = choices.get("tuned", "none"), choices["method"], choices["schedule"]
    default = f"{choices['dataset']}_{method}"
    if tuned not in (*options, default):
        raise UserError(f"tuned: no choice {tuned!r}; choose from: {', '.join(options)}")
    if tuned != default or tuned not in options or schedule == method:
        return
    if schedule != (own := own_schedule(method, loader)):
        raise UserError(
            f"schedule: {schedule!r} would be mixed with tuned={tuned}, made for schedule={own}; add tuned=none"
        )


def own_schedule(method: str, loader: ConfigLoader) -> str:
    """Return the schedule that a method brings with it."""
    composed = loader.load_configuration("config", [f"method={method}"], RunMode.RUN, from_shell=False)
    return str(composed.hydra.runtime.choices["schedule"])
