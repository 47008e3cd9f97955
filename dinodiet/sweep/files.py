"""The files that cells choose, composed: Hydra takes 0.1 s for each choice, so that choices share what they can."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

Source = tuple[str, str, bool]  # a file: its path, the place that it is merged into, whether it is the primary one
Sources = tuple[Source, ...]


@dataclass(frozen=True)
class Chosen:
    """A configuration that some files make up, without Hydra's own node, and the choices by group.

    `root` is the configuration, `nodes` are the keys that it lacks.
    """

    root: DictConfig
    choices: dict[str, str]
    nodes: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> DictConfig:
        """Return the configuration, which is the caller's own."""
        made = copy.deepcopy(self.root)
        content: Any = made._content
        for key, node in self.nodes.items():
            content[key] = copy.deepcopy(node)
            content[key]._set_parent(made)
        return made


class ComposedFiles:
    """Composes files; nodes that the same files make up are taken from what was composed before.

    Hydra merges the files of its list of defaults one after another into one configuration, key by key. So a key of the
    top level is determined by the files that have it, in their order: `model` is the same whatever the dataset. The
    list itself is always Hydra's own. Where words or files could tie keys together, all is composed by Hydra.

    Args:
        loader: Hydra's.
        config: the configuration that Hydra composed for the sweep itself.
    """

    def __init__(self, loader: ConfigLoader, config: DictConfig) -> None:
        assert isinstance(loader, ConfigLoaderImpl)
        self._loader, self._config = loader, config
        self._name: str | None = config.hydra.job.config_name
        self._words = [str(word) for word in config.hydra.overrides.hydra]
        self._commands: list[Override] = []
        self._repo: IConfigRepository | None = None
        self._copies: Any = None
        self._files: dict[Source, dict[str, Any]] = {}
        self._tied: dict[tuple[str, Sources], bool] = {}
        self._nodes: dict[tuple[str, Sources], Any] = {}
        self._root: DictConfig | None = None
        self._chosen: dict[tuple[str, ...], Chosen] = {}

    def chosen(self, files: tuple[str, ...], parsed: Sequence[Override]) -> Chosen:
        """Return what words that choose files make up; `parsed` are the same words, parsed.

        Raises:
            HydraException, OmegaConfBaseException: it cannot be composed.
        """
        if files not in self._chosen:
            self._chosen[files] = self._compose(files, parsed)
        return self._chosen[files]

    def whole(self, files: Sequence[str]) -> DictConfig:
        """Return what words make up by Hydra alone, with its own node."""
        return self._loader.load_sweep_config(self._config, list(files))

    def _compose(self, files: Sequence[str], parsed: Sequence[Override]) -> Chosen:
        listed = self._listed(parsed)
        sources = None if listed is None else self._sources(listed.defaults)
        if self._root is not None and listed is not None and sources is not None:
            nodes = {key: self._node(key, found, listed.defaults) for key, found in sources.items()}
            return Chosen(self._root, _texts(listed.overrides.known_choices), nodes)
        whole = self.whole(files)
        choices = _texts(whole.hydra.runtime.choices)
        _leave_out_hydra(whole)
        if sources is not None and set(sources) == set(map(str, whole)):
            self._root = copy.deepcopy(whole)
            content: Any = self._root._content
            content.clear()
        return Chosen(whole, choices)

    def _node(self, key: str, sources: Sources, defaults: Sequence[ResultDefault]) -> Any:
        """Return the node of a key, which Hydra merges from the files that have it."""
        if (key, sources) not in self._nodes:
            own = [default for default in defaults if _source_of(default) in sources]
            made = self._loader._compose_config_from_defaults_list(own, self._copies)
            node: Any = made._get_node(key)
            node._set_parent(None)
            self._nodes[key, sources] = node
        return self._nodes[key, sources]

    def _listed(self, parsed: Sequence[Override]) -> DefaultsList | None:
        """Return Hydra's list of the files; None: words say more than which files."""
        if self._repo is None:
            read = self._loader._parse_overrides_and_create_caching_repo(self._name, self._words)
            self._commands, self._repo = read
            self._copies = _Copies(self._repo)
        words = copy.deepcopy([*self._commands, *parsed])
        listed = create_defaults_list(self._repo, self._name, words, prepend_hydra=True, skip_missing=False)
        return listed if all(word.is_hydra_override() for word in listed.config_overrides) else None

    def _sources(self, defaults: Sequence[ResultDefault]) -> dict[str, Sources] | None:
        """Return the files of each key, in their order; None: one refers to a node that another is merged into."""
        found: dict[str, list[Source]] = {}
        for default in defaults:
            for key in self._read(default):
                found.setdefault(key, []).append(_source_of(default))
        kept = {key: tuple(sources) for key, sources in found.items() if key not in ("hydra", "defaults")}
        return None if any(self._is_tied(key, sources) for key, sources in kept.items()) else kept

    def _read(self, default: ResultDefault) -> dict[str, Any]:
        """Return the keys of a file with their values, interpolations as they are written."""
        source = _source_of(default)
        if source not in self._files:
            made = self._loader._load_single_config(default, self._copies).config
            plain = OmegaConf.to_container(made, resolve=False)
            self._files[source] = {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}
        return self._files[source]

    def _is_tied(self, key: str, sources: Sources) -> bool:
        if (key, sources) not in self._tied:
            pairs = itertools.combinations([self._files[source][key] for source in sources], 2)
            self._tied[key, sources] = any(_reaches(*pair) for pair in pairs)
        return self._tied[key, sources]


class _Copies:
    """A repository whose files are copies, without Hydra's own node: Hydra merges into what it has read."""

    def __init__(self, repo: IConfigRepository) -> None:
        self._repo, self.get_schema_source = repo, repo.get_schema_source

    def load_config(self, config_path: str) -> Any:
        """Return a file, read once."""
        read: Any = copy.deepcopy(self._repo.load_config(config_path))
        if isinstance(read.config._content, dict):
            read.config._content.pop("hydra", None)
        return read


def _source_of(default: ResultDefault) -> Source:
    return str(default.config_path), str(default.package), bool(default.primary)


def _reaches(before: Any, after: Any) -> bool:
    """Return whether a value is merged into an interpolation, which may be a node that lies elsewhere."""
    if isinstance(before, str):
        return "${" in before
    if not isinstance(before, dict) or not isinstance(after, dict):
        return False
    return any(_reaches(before[key], after[key]) for key in before.keys() & after.keys())


def _leave_out_hydra(whole: DictConfig) -> None:
    """Leave out Hydra's node; the rest takes no new keys, as Hydra leaves it."""
    OmegaConf.set_struct(whole, False)
    del whole["hydra"]
    OmegaConf.set_struct(whole, True)


def _texts(choices: Mapping[Any, Any]) -> dict[str, str]:
    return {str(group): str(option) for group, option in choices.items()}
