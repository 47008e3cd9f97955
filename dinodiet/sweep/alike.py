"""Cells that differ in their seed alone: what one of them was composed to, with another seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omegaconf import Container, DictConfig, OmegaConf

from dinodiet.config.schema import check, resolved
from dinodiet.config.settings import Settings, check_resolved

SEED = "${seed}"
Place = tuple[str | int, ...]  # of a value: the keys that lead to it


@dataclass
class Alike:
    """A composed configuration, checked, whose seed can be set.

    Only what refers to something is resolved anew with a seed: all else is the same whatever the seed.

    Attributes:
        config: the configuration, without Hydra's node.
        choices: the chosen group files.
    """

    config: DictConfig
    choices: dict[str, str]

    def __post_init__(self) -> None:
        """Resolve the configuration; raises as `settings_of`."""
        check(self.config)
        self._written: Any = OmegaConf.to_container(self.config, resolve=False)
        self._resolved = resolved(self.config)
        self._links = list(_links(self._written))

    @property
    def seed(self) -> int:
        """Return the seed that the configuration itself says."""
        return int(self._written["seed"])

    def written(self, seed: int) -> dict[str, Any]:
        """Return the configuration as plain values, interpolations as they are written; what is inside is shared."""
        return {**self._written, "seed": seed}

    def settings(self, seed: int) -> Settings:
        """Return the checked settings of a seed; raises as `settings_of`."""
        self.config["seed"] = seed
        plain: Any = _copied(self._resolved)
        plain["seed"] = seed
        for place, text in self._links:
            _put(plain, place, seed if text == SEED else _resolved_at(self.config, place))
        return check_resolved(plain, self.choices)


def _links(value: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield the places of interpolations in plain values, and how they are written."""
    if isinstance(value, str) and "${" in value:
        yield place, value
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from _links(item, (*place, key))


def _copied(value: Any) -> Any:
    """Return a copy of plain values, which `copy.deepcopy` makes in five times the time."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _resolved_at(config: DictConfig, place: Place) -> Any:
    node: Any = config
    for key in place[:-1]:
        node = node._get_node(key)
    found = node[place[-1]]
    return OmegaConf.to_container(found, resolve=True) if isinstance(found, Container) else found


def _put(plain: Any, place: Place, value: Any) -> None:
    for key in place[:-1]:
        plain = plain[key]
    plain[place[-1]] = value
