"""Compose the cells of a grid. Cells that choose the same files are composed once: Hydra takes 0.2 s for each."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from dinodiet.config.explain import fault, told
from dinodiet.config.tuned import with_tuned
from dinodiet.config.words import check_chosen
from dinodiet.errors import UserError, one_line
from dinodiet.sweep.task import Task, task_of


class Composer:
    """Turns the overrides of a cell into a checked task.

    Args:
        loader: Hydra's.
        config: the configuration that Hydra composed for the sweep itself.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._loader, self._config = loader, config
        self._parser = OverridesParser.create(config_loader=loader)
        self._groups = {*loader.list_groups(""), *map(str, config.hydra.runtime.choices)}
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def task(self, overrides: Sequence[str]) -> Task:
        """Return the task of a cell.

        Raises:
            UserError, HydraException, OmegaConfBaseException: it cannot be composed, or is refused.
        """
        composed = self.compose(overrides)
        choices = {str(group): str(option) for group, option in composed.hydra.runtime.choices.items()}
        check_chosen(choices, overrides, self._loader)
        choices = with_tuned(choices, self._loader)
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        return task_of(composed, choices, overrides)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return a cell's configuration: that of the files it chooses, with its values set in a copy."""
        parsed = self._parser.parse_overrides(list(overrides))
        values = [override for override in parsed if override.key_or_group not in self._groups]
        composed = self._of_files([text for text, one in zip(overrides, parsed, strict=True) if one not in values])
        ConfigLoaderImpl._apply_overrides_to_config(values, composed)
        return composed

    def explain(self, error: Exception, overrides: Sequence[str]) -> str:
        """Return why a cell cannot be composed, as one line."""
        if isinstance(error, UserError):
            return one_line(error)
        return fault(overrides, self._loader, self._of_files) or told(error)

    def _of_files(self, words: Sequence[str]) -> DictConfig:
        files = tuple(words)
        if files not in self._composed:
            self._composed[files] = self._loader.load_sweep_config(self._config, list(files))
        return copy.deepcopy(self._composed[files])
