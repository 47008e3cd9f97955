"""How many tasks the job of a run has, and which runs that is for. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dinodiet.config.several import check_several
from dinodiet.errors import UserError
from dinodiet.sweep.task import Task

ONE_TASK = "set hydra.launcher.nodes=1 hydra.launcher.tasks_per_node=1"


def tasks_per_node(parameters: Mapping[str, Any]) -> int:
    """Return how many tasks a node has: as set, else one for each GPU, or for as many GPUs as a task is to have.

    Raises:
        UserError: there are more tasks than GPUs on a node.
    """
    gpus, each = parameters.get("gpus_per_node") or 0, parameters.get("gpus_per_task") or 1
    tasks = int(parameters.get("tasks_per_node") or max(gpus // each, 1))
    if 0 < gpus < tasks:
        raise UserError(
            f"tasks_per_node: {tasks}, and gpus_per_node is {gpus}; a process needs a GPU of its own: set "
            f"gpus_per_node={tasks}, or gpus_per_node=null for a training on CPUs"
        )
    return tasks


def check_tasks(tasks: Sequence[Task], number: int) -> None:
    """Refuse runs that so many tasks of a job cannot do together.

    Raises:
        UserError: names the first one.
    """
    for task in tasks:
        if (mode := task.config["mode"]) not in ("train", "plan", "measure", "fetch"):
            raise UserError(f"mode: {mode} is for one process, and a job has {number} tasks; {ONE_TASK}")
        asked = task.config.get("processes")
        if isinstance(asked, int) and asked not in (1, number):
            raise UserError(
                f"processes: {asked}, and a job has {number} tasks, a process each; leave processes out, or "
                f"{ONE_TASK}: the run then starts its processes itself"
            )
        check_several(task.config, number)
