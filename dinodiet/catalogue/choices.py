"""The choices of the groups dataset, method and eval: what their files say of them, and what their sources declare."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from dinodiet.config.build import declared
from dinodiet.config.places import CONF
from dinodiet.errors import UserError, one_line
from dinodiet.io.assets import COUNTS

GROUPS = {"models": "model", "datasets": "dataset", "methods": "method", "evaluators": "eval", "records": "record"}


@dataclass(frozen=True)
class Choice:
    """A choice of a group.

    Attributes:
        name: what to choose on the command line.
        images: of a dataset whose source declares what was published of it: of all its splits.
        what: the first sentence of its file.
        built_by: the last part of its `_target_`.
    """

    name: str
    images: int | None
    what: str
    built_by: str


class Folders:
    """The folder of the configuration, and one of one's own that goes before it."""

    def __init__(self, config_dir: Path | None = None) -> None:
        self._folders = [CONF, *([] if config_dir is None else [config_dir])]
        for folder in self._folders:
            if not folder.is_dir():
                raise UserError(f"--config-dir: {folder} is no folder")
        search = create_config_search_path(str(CONF))
        for folder in self._folders[1:]:
            search.prepend("command-line", str(folder.absolute()), anchor="schema")  # which Hydra wants last
        self._loader = ConfigLoaderImpl(config_search_path=search)

    def require(self, group: str) -> None:
        """Raise UserError where a folder has nothing of a group."""
        for folder in self._folders:
            if not (folder / group).is_dir():
                raise UserError(f"{folder.absolute()}: no folder {group}/ in it")

    def names(self, group: str) -> list[str]:
        """Return the choices of a group; a file whose name begins with _ is what others share."""
        names = self._loader.get_group_options(group, results_filter=ObjectType.CONFIG)
        return [name for name in names if not name.startswith("_")]

    def node(self, group: str, name: str, *, resolve: bool = False) -> dict[str, Any]:
        """Return the node of a choice.

        Raises:
            UserError: it cannot be composed, or has no `_target_`.
        """
        try:
            config = self._loader.load_configuration(f"{group}/{name}", overrides=[], run_mode=RunMode.RUN)
            node = OmegaConf.to_container(config[group], resolve=resolve)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"{group}/{name}.yaml: {one_line(error)}") from error
        if not isinstance(node, dict) or "_target_" not in node:
            raise UserError(f"{group}: no _target_ in {group}/{name}.yaml; it names the class or function to build")
        return {str(key): value for key, value in node.items()}

    def file(self, group: str, name: str) -> Path:
        """Return the file of a choice: one of one's own goes before the configuration's."""
        return next(path for folder in reversed(self._folders) if (path := folder / group / f"{name}.yaml").is_file())

    def target(self, group: str, name: str) -> str:
        """Return the `_target_` of a choice that may not compose alone, from its file or the one that it changes.

        Raises:
            UserError: there is none.
        """
        own: Any = OmegaConf.to_container(OmegaConf.load(self.file(group, name)))
        if "_target_" in own:
            return str(own["_target_"])
        parents = [entry for entry in own.get("defaults", ()) if isinstance(entry, str) and entry != "_self_"]
        if not parents:
            raise UserError(f"{group}: no _target_ in {group}/{name}.yaml; it names the class or function to build")
        return self.target(group, parents[0].partition("@")[0].rpartition("/")[2])

    def header(self, group: str, name: str) -> str:
        """Return the comment at the beginning of a choice's file, as one line."""
        lines = []
        for line in self.file(group, name).read_text().splitlines():
            if not line.startswith("#"):
                break
            if not line.startswith("# @package"):
                lines.append(line.lstrip("# "))
        return " ".join(lines)


def choices(kind: str, names: Sequence[str] = (), config_dir: Path | None = None) -> list[Choice]:
    """Return the choices of a kind (`GROUPS`) by name, or those asked for.

    Raises:
        UserError: there is no such choice, or its file cannot be composed.
    """
    folders, group = Folders(config_dir), GROUPS[kind]
    known = folders.names(group)
    if unknown := [name for name in names if name not in known]:
        raise UserError(f"{group}: no choice {unknown[0]!r}; choose from: {', '.join(known)}")
    return [_choice(folders, group, name) for name in names or known]


def _choice(folders: Folders, group: str, name: str) -> Choice:
    source = folders.node(group, name)["source"] if group == "dataset" else {"_target_": folders.target(group, name)}
    what = re.split(r"(?<=[\w)][.]) (?=[A-Z])", folders.header(group, name))[0].rstrip(".")
    return Choice(name, _images(source) if group == "dataset" else None, what, source["_target_"].rpartition(".")[2])


def _images(source: dict[str, Any]) -> int | None:
    """Return how many images were published, None where the source does not declare it."""
    for counts in declared(source, "dataset.source", COUNTS, nested=False):
        try:
            splits = counts()
        except UserError:
            return None
        parts = (splits.train, splits.val, splits.test)
        return sum(len(part) for part in parts if part is not None)
    return None
