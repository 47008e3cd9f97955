"""What is done with a grid, or a single run, ahead of it: mode=plan and mode=fetch. Imports torch only when called."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dinodiet.sweep.task import Task


def _plan(tasks: Sequence[Task]) -> None:
    from dinodiet.sweep.planning.plan import plan  # noqa: PLC0415 - it builds models: needs torch

    print(plan(tasks, full=tasks[0].config["plan"] == "full"), flush=True)


def _fetch(tasks: Sequence[Task]) -> None:
    from dinodiet.sweep.planning.fetch import fetch  # noqa: PLC0415 - it knows the models: needs torch

    fetch(tasks)


AHEAD: dict[str, Callable[[Sequence[Task]], None]] = {"plan": _plan, "fetch": _fetch}
