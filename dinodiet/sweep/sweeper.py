"""Hydra's side of a sweep: what the command line and a sweep file say becomes a list of composed, checked cells."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, ListConfig, OmegaConf

from dinodiet.config.build import build
from dinodiet.config.calls import quote_calls
from dinodiet.config.groups import LAUNCHER
from dinodiet.config.words import as_choice, parse
from dinodiet.errors import UserError, one_line
from dinodiet.processes.place import place_in
from dinodiet.sweep.ahead import AHEAD
from dinodiet.sweep.compose import Composer
from dinodiet.sweep.drive import CheckingLauncher, Launcher, as_started, elsewhere
from dinodiet.sweep.each import run_each
from dinodiet.sweep.hold import QUEUE_MODES
from dinodiet.sweep.landscape import run_landscapes
from dinodiet.sweep.packing import packing_of
from dinodiet.sweep.refused import refusal
from dinodiet.sweep.run_grid import run_grid
from dinodiet.sweep.task import Task
from dinodiet.sweep.together import Cells, cells_of, narrowed, part_cells
from dinodiet.sweep.told import Told

OF_RUNS = ("train", *AHEAD, *QUEUE_MODES)  # modes that do something with the runs of a grid


class GridSweeper(Sweeper):
    """Expands a grid, composes every cell, and brings the sweep to its end.

    It differs from Hydra's basic sweeper: keys of the command line replace those of a sweep file, all cells are checked
    before anything starts, what is done is not run again, and one failure neither hides nor stops the others.

    Args:
        params: keys with their values, `{seed: range(3)}`.
        together: axes of a grid whose alternatives have several keys, by a name; see `dinodiet.sweep.together`.
        parts: alternatives that are a part of the study each, by its name.
        part: which of them: a name, several in a list, or `all`.

    Attributes:
        words: overrides that are the cells' alone. Hydra first composes a configuration for the sweep itself, and keys
            of a swept model would be unknown to its default model.
    """

    words: ClassVar[list[str]] = []

    def __init__(
        self,
        params: dict[str, str] | None = None,
        together: Mapping[str, Any] | None = None,
        parts: Mapping[str, Any] | None = None,
        part: Any = None,
    ) -> None:
        self.params, self.together, self.parts, self.part = params or {}, together or {}, parts or {}, part
        self.loader: ConfigLoader | None = None
        self.composer: Composer | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Remember what Hydra hands over; the launcher is dinodiet's own and built when there is something to run."""
        self.loader = hydra_context.config_loader
        self.composer = Composer(self.loader, config)

    def sweep(self, arguments: list[str]) -> None:
        """Run the grid, plan it or prepare it (modes plan, measure, fetch); other modes do each cell once.

        Raises:
            Told: carries whatever went wrong: a cell cannot be composed or is refused, or runs did not finish.
            Preempted: the command was asked to stop.
        """
        try:
            _check_one_command()
            self._do(self.expand([*arguments, *self.words]))
        except Exception as error:
            raise Told(error) from error

    def _do(self, grid: Sequence[Sequence[str]]) -> None:
        tasks = self.tasks(grid)
        launcher = self._launcher(grid[0])
        if isinstance(launcher, CheckingLauncher):
            launcher.check(tasks)
        first = tasks[0].config
        if first["mode"] in AHEAD:
            planned = as_started(tasks, launcher) if first["mode"] == "plan" else tasks
            AHEAD[first["mode"]](planned, packing_of(launcher), elsewhere(launcher))
        elif first["mode"] == "landscape":
            run_landscapes(tasks, launcher)
        elif first["mode"] in QUEUE_MODES:
            QUEUE_MODES[first["mode"]](tasks)
        elif first["mode"] != "train":
            run_each(tasks, launcher)
        else:
            run_grid(tasks, launcher)

    def expand(self, arguments: Sequence[str]) -> list[list[str]]:
        """Return the overrides of every cell. A key on the command line replaces the same key of the sweep file."""
        given = self._parsed(arguments)
        keys = ("params", "together", "parts")
        for name in keys:
            if not isinstance(found := getattr(self, name), (dict, DictConfig)):
                raise UserError(f"hydra.sweeper.{name}: {found!r}; must be keys with values: {{key: value}}")
        named = {_key(override) for override in given}
        filed = [override for key, value in self.params.items() for override in self._filed(key, value)]
        axes = [list(_values(override)) for override in filed if _key(override) not in named]
        blocks = [
            cells_of(_plain(some), f"hydra.sweeper.together.{name}", self._words)
            for name, some in self.together.items()
        ]
        if (chosen := part_cells(_plain(self.parts), _plain(self.part), self._words)) is not None:
            blocks.insert(0, chosen)
        for override in given:
            values, said = list(_values(override)), False
            for number, block in enumerate(blocks):
                blocks[number], says = narrowed(block, _key(override), values)
                said |= says
            axes += [] if said else [values]
        whole: list[Cells] = [*blocks, *([[word] for word in axis] for axis in axes)]
        return [[word for words in cell for word in words] for cell in itertools.product(*whole)]

    def tasks(self, grid: Sequence[Sequence[str]]) -> list[Task]:
        """Compose every cell; cells that come out as the same run with the same scores are one.

        Raises:
            UserError: names every cell that cannot be composed or is refused, and why.
        """
        assert self.composer is not None
        tasks: dict[Any, Task] = {}
        modes: set[str] = set()
        refused: dict[str, list[str]] = {}  # the cells by what is wrong with them
        for overrides in grid:
            try:
                task = self.composer.task(overrides)
            except Exception as error:  # Hydra and OmegaConf raise TypeError, ValueError and AssertionError too
                refused.setdefault(self.composer.explain(error, overrides), []).append(_swept(overrides, grid))
                continue
            modes.add(task.config["mode"])
            trains = task.config["mode"] in OF_RUNS  # the other modes leave no run behind
            what = task.wanted if trains else repr(task.config)
            tasks.setdefault((task.study, task.cell.run_id, what), task)
        if refused:
            count = sum(map(len, refused.values()))
            reasons = {line: [(cell, 1) for cell in cells] for line, cells in refused.items()}
            raise refusal(f"{count} of {len(grid)} runs are refused, nothing is started", reasons)
        if len(modes) > 1:
            raise UserError(f"mode: {', '.join(sorted(modes))}; all runs of a grid have one")
        if len(studies := {str(task.study) for task in tasks.values()}) > 1:
            raise UserError(f"name, outputs_dir: a sweep lies in one study, this grid in {', '.join(sorted(studies))}")
        return list(tasks.values())

    def _parsed(self, words: Sequence[str]) -> list[Override]:
        parsed, wrong = parse(words, self.loader)
        if wrong is not None:
            raise UserError(wrong)
        return parsed

    def _filed(self, key: Any, value: Any) -> list[Override]:
        """Return what a key of a sweep file says."""
        return self._parsed([as_choice(quote_calls(f"{key}={'null' if value is None else value}"))])

    def _words(self, key: str, value: Any) -> list[str]:
        return [word for override in self._filed(key, value) for word in _values(override)]

    def _launcher(self, overrides: Sequence[str]) -> Launcher:
        assert self.composer is not None
        hydra = self.composer.compose(overrides).hydra
        if "_target_" not in (hydra.launcher if isinstance(hydra.launcher, DictConfig) else {}):
            raise UserError(f"{LAUNCHER}: {hydra.launcher!r} names no _target_; choose from: local, parallel, slurm")
        launcher = build(hydra.launcher, "hydra.launcher")()
        if not isinstance(launcher, Launcher):
            raise UserError(
                f"hydra/launcher: {hydra.runtime.choices[LAUNCHER]!r} is none of dinodiet's: {hydra.launcher._target_} "
                "has no run(tasks, progress) or no in_process, see dinodiet.sweep.drive.Launcher; choose from: local, "
                "parallel, slurm"
            )
        return launcher


# Hydra takes plugins from this namespace only, and looks for them by name.
GridSweeper.__module__ = "hydra_plugins.dinodiet"
sys.modules[GridSweeper.__module__] = sys.modules[__name__]


def _swept(overrides: Sequence[str], grid: Sequence[Sequence[str]]) -> str:
    """Return the words of a cell that not all cells have."""
    return " ".join(word for word in overrides if any(word not in cell for cell in grid))


def _key(override: Override) -> str:
    return override.get_key_element().lstrip("+~")


def _plain(node: Any) -> Any:
    """Return what a sweep file says as plain values."""
    return OmegaConf.to_container(node) if isinstance(node, (DictConfig, ListConfig)) else node


def _values(override: Override) -> Iterator[str]:
    key = override.get_key_element()
    if not override.is_sweep_override():
        yield f"{key}={override.get_value_element_as_str()}" if not override.is_delete() else str(override.input_line)
        return
    if not override.is_discrete_sweep():
        raise UserError(f"{override.input_line}: an interval is no grid; list its values, or range(start,stop,step)")
    try:
        values = list(override.sweep_string_iterator())
    except Exception as error:  # range(0,3,0)
        raise UserError(f"{override.input_line}: {one_line(error)}") from error
    if not values:
        raise UserError(f"{override.input_line}: no values")
    yield from (f"{key}={value}" for value in values)


def _check_one_command() -> None:
    """Refuse a grid in processes of torchrun, each of which would do all of it.

    Raises:
        UserError: torchrun started this one.
    """
    if (place := place_in(os.environ)) is not None:
        raise UserError(
            f"-m: torchrun started {place.size} processes, each of which would do the whole grid; leave torchrun out, "
            f"and give processes={place.size}: each run then starts its own"
        )
