"""Compose the cells of a grid. Cells share what they have in common: files, words, and all but the seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf

from dinodiet.config.explain import fault, told
from dinodiet.config.gate import pass_on
from dinodiet.config.tuned import with_tuned
from dinodiet.config.words import check_chosen
from dinodiet.errors import UserError, one_line
from dinodiet.sweep.alike import Alike
from dinodiet.sweep.files import ComposedFiles
from dinodiet.sweep.task import Task, task_of, task_with

Words = tuple[str, ...]
CHANGE = OverrideType.CHANGE
KEPT = 64  # configurations that wait for cells of another seed


class Composer:
    """Turns the overrides of a cell into a checked task.

    Args:
        loader: Hydra's.
        config: the configuration that Hydra composed for the sweep itself.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        self._loader = loader
        self._parser = OverridesParser.create(config_loader=loader)
        self._groups = {*loader.list_groups(""), *map(str, config.hydra.runtime.choices)}
        self._files = ComposedFiles(loader, config)
        self._parsed: dict[str, Override] = {}
        self._options: list[str] = []  # of the group `tuned`
        self._tuned: dict[Words, str] = {}
        self._alike: dict[tuple[Words, Words], Alike] = {}

    def task(self, overrides: Sequence[str]) -> Task:
        """Return the task of a cell.

        Raises:
            UserError, HydraException, OmegaConfBaseException: it cannot be composed, or is refused.
        """
        try:
            return self.shared_task(overrides)
        except Exception:  # told by what composes this cell alone
            return self.task_alone(overrides)

    def task_alone(self, overrides: Sequence[str]) -> Task:
        """Return the task of a cell, of which nothing is shared with others; raises as `task`."""
        composed = self.compose(overrides)
        choices = {str(group): str(option) for group, option in composed.hydra.runtime.choices.items()}
        check_chosen(choices, overrides, self._loader)
        choices = with_tuned(choices, self._loader)
        OmegaConf.set_struct(composed, False)
        del composed["hydra"]
        return task_of(composed, choices, overrides)

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """Return a cell's configuration by Hydra alone, with its own node."""
        parsed = self._parser.parse_overrides(list(overrides))
        values = [override for override in parsed if override.key_or_group not in self._groups]
        composed = self._files.whole([text for text, one in zip(overrides, parsed, strict=True) if one not in values])
        ConfigLoaderImpl._apply_overrides_to_config(values, composed)
        return composed

    def explain(self, error: Exception, overrides: Sequence[str]) -> str:
        """Return why a cell cannot be composed, as one line."""
        if isinstance(error, UserError):
            return one_line(error)
        return fault(overrides, self._loader, self._files.whole) or told(error)

    def shared_task(self, overrides: Sequence[str]) -> Task:
        """Return the task of a cell, from what cells before it had in common with it; raises as `task`."""
        words = {word: self._word(word) for word in overrides}
        files = tuple(word for word in overrides if words[word].key_or_group in self._groups)
        values = tuple(word for word in overrides if word not in files)
        same = tuple(word for word in values if words[word].key_or_group != "seed")
        if (files, same) not in self._alike:
            self._alike[files, same] = self._made(files, same)
            for oldest in list(self._alike)[:-KEPT]:
                del self._alike[oldest]
        alike = self._alike[files, same]
        seed = _seed_of([words[word] for word in values if word not in same], alike.seed)
        check_chosen(alike.choices, overrides, self._loader)
        settings = pass_on(alike.settings(seed), overrides, quiet=True)
        return task_with(settings, alike.written(seed), overrides)

    def _word(self, word: str) -> Override:
        if word not in self._parsed:
            (self._parsed[word],) = self._parser.parse_overrides([word])
        return self._parsed[word]

    def _made(self, files: Words, values: Words) -> Alike:
        """Return what the words that choose files, and those that set values, make up."""
        chosen = self._files.chosen(files, [self._word(word) for word in files])
        config = chosen.config()
        ConfigLoaderImpl._apply_overrides_to_config([self._word(word) for word in values], config)
        OmegaConf.set_struct(config, False)
        return Alike(config, {**chosen.choices, "tuned": self._tuned_of(chosen.choices)})

    def _tuned_of(self, choices: Mapping[str, str]) -> str:
        """Return the `tuned` choice that was applied, see `with_tuned`, which takes its time."""
        if not self._options:
            self._options = self._loader.get_group_options("tuned")
        named = tuple(choices.get(group, "") for group in ("dataset", "method", "schedule", "tuned"))
        if named[3] == f"{named[0]}_{named[1]}" and named[3] not in self._options:
            return "none"
        if named not in self._tuned:
            self._tuned[named] = with_tuned(choices, self._loader)["tuned"]
        return self._tuned[named]


def _seed_of(words: Sequence[Override], usual: int) -> int:
    """Return the seed that words of a cell say, which must be a plain number; of none the usual one."""
    said: list[Any] = [word.value() for word in words]
    if len(said) > 1 or any(type(one) is not int for one in said) or any(word.type is not CHANGE for word in words):
        raise UserError(f"seed: {said}; must be one whole number")
    return int(said[0]) if said else usual
