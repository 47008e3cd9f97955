"""What is done ahead of a grid or a run: mode=plan, mode=measure and mode=fetch. Imports torch only when called."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dinodiet.sweep.packing import Packing
from dinodiet.sweep.task import Task


def _plan(tasks: Sequence[Task], packing: Packing | None, elsewhere: str | None) -> None:
    from dinodiet.sweep.planning.plan import plan  # noqa: PLC0415 - it builds models: needs torch

    print(plan(tasks, full=tasks[0].config["plan"] == "full", packing=packing, elsewhere=elsewhere), flush=True)


def _measure(tasks: Sequence[Task], packing: Packing | None, elsewhere: str | None) -> None:
    from dinodiet.sweep.planning.measure import measure  # noqa: PLC0415 - it trains: needs torch

    measure(tasks)


def _fetch(tasks: Sequence[Task], packing: Packing | None, elsewhere: str | None) -> None:
    from dinodiet.sweep.planning.fetch import fetch  # noqa: PLC0415 - it knows the models: needs torch

    fetch(tasks)


# With how runs share GPUs, and the kind of device that they have on other machines.
Ahead = Callable[[Sequence[Task], Packing | None, str | None], None]
AHEAD: dict[str, Ahead] = {"plan": _plan, "measure": _measure, "fetch": _fetch}
