"""Cells of grids of tiny runs, and the lines of their plan."""

import copy
import functools
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from dinodiet.config.settings import Settings, from_plain
from dinodiet.config.signature import Node
from dinodiet.sweep.planning.plan import plan
from dinodiet.sweep.task import Task, task_of
from tests.running import CHOICES, composed


def cell(tmp_path: Path, *overrides: str) -> Task:
    """Return a tiny run as the cell of a grid that these overrides make."""
    pairs = [override.lstrip("+").split("=", 1) for override in overrides]
    files = {key: value for key, value in pairs if key in CHOICES or "@" in key}
    chosen = {key: value for key, value in files.items() if key in CHOICES}
    cfg = copy.deepcopy(chosen_groups(**files))
    cfg.outputs_dir, cfg.data_dir = str(tmp_path / "outputs"), str(tmp_path / "data")
    for key, value in pairs:
        if key not in files:
            OmegaConf.update(cfg, key, OmegaConf.from_dotlist([f"value={value}"]).value, merge=False, force_add=True)
    return task_of(cfg, {**CHOICES, **chosen}, overrides)


@functools.cache
def chosen_groups(**chosen: str) -> DictConfig:
    """Return the configuration of a tiny run with these group files; composing one takes its time."""
    return composed(Path("unused"), *(f"{group}={choice}" for group, choice in chosen.items()))


def with_nodes(settings: Settings, *, model: Node, views: Node | None = None) -> Settings:
    """Return settings with another model, and other views of the method."""
    method = settings.method if views is None else {**settings.method, "views": views}
    return from_plain({**settings.plain, "model": model, "method": method}, settings.choices)


def lines(tasks: list[Task]) -> list[list[str]]:
    """Return the words of the lines of the runs."""
    return [line.split() for line in plan(tasks, full=True).splitlines()[1 : len(tasks) + 1]]
