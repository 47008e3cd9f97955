"""What runs need to begin, looked at before they are started elsewhere: weights and data. Imports torch when called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dinodiet.config.groups import NODES
from dinodiet.errors import UserError, one_line
from dinodiet.io.files import write_json
from dinodiet.store.status import State, read_status
from dinodiet.sweep.task import Task


@dataclass(frozen=True)
class Checked:
    """The tasks whose inputs are there, and why others are not to be started, by run id."""

    ready: list[Task]
    blocked: dict[str, str]


def check_inputs(tasks: Sequence[Task]) -> Checked:
    """Look for what each run needs, fetch what can be fetched, each thing once, and mark runs that lack something.

    A run that is marked says `blocked` and the reason in its `status.json`; the next command looks again.
    """
    inputs = Inputs()
    reasons = {task.cell.run_id: reason for task in tasks if (reason := inputs.missing(task)) is not None}
    ready = []
    for task in tasks:
        if task.cell.run_id in reasons:
            _mark(task, reasons[task.cell.run_id])
        else:
            ready.append(task)
    return Checked(ready, reasons)


class Inputs:
    """Looks for inputs, once for each part of a configuration and for each thing."""

    def __init__(self) -> None:
        self._parts: dict[str, str | None] = {}
        self._things: dict[tuple[str, str], str | None] = {}

    def missing(self, task: Task) -> str | None:
        """Return why a run cannot begin, in one line; None: it can."""
        settings = None
        for group in NODES:
            key = repr((group, task.config[group], task.config["data_dir"]))
            if key not in self._parts:
                settings = settings or task.settings(quiet=True)
                self._parts[key] = self._missing_of(group, settings.plain[group], task)
            if self._parts[key] is not None:
                return self._parts[key]
        return None

    def _missing_of(self, group: str, node: dict[str, object], task: Task) -> str | None:
        from dinodiet.sweep.planning.fetch import choice_of, have, needs_of_node  # noqa: PLC0415 - needs torch

        for need in needs_of_node(group, node, choice_of(group, node, task)):
            thing = (need.choice, "") if isinstance(need.what, UserError) else (need.what.name, need.what.place)
            if thing not in self._things:
                try:
                    have(need)
                    self._things[thing] = None
                except UserError as error:
                    self._things[thing] = f"{need.choice}: {one_line(error)}"
            if self._things[thing] is not None:
                return self._things[thing]
        return None


def _mark(task: Task, reason: str) -> None:
    status = read_status(task.run_dir) or {}
    write_json(task.run_dir.status, {**status, "state": State.BLOCKED.value, "reason": reason, "slurm_job": None})
