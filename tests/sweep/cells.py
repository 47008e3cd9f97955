"""Tasks of tiny runs, and what came of them."""

from pathlib import Path
from typing import Any

from dinodiet.io.files import read_json
from dinodiet.sweep.task import Task, task_of
from tests.running import CHOICES, composed, scores


def tasks(tmp_path: Path, *cells: tuple[str, ...]) -> list[Task]:
    """Return a task for each tuple of overrides."""
    return [task_of(composed(tmp_path, *overrides), CHOICES, overrides) for overrides in cells]


def seeds(tmp_path: Path, number: int, *overrides: str) -> list[Task]:
    """Return tasks that differ in their seed."""
    return tasks(tmp_path, *((*overrides, f"seed={seed}") for seed in range(number)))


def table(of: list[Task]) -> dict[str, Any]:
    """Return the scores by run id; None where a run has none."""
    return {
        task.cell.run_id: None if (found := read_json(task.run_dir.results)) is None else scores(found) for task in of
    }


def starts(of: list[Task]) -> list[int]:
    """Return how often each run was started."""
    return [(read_json(task.run_dir.status) or {}).get("starts", 0) for task in of]
