"""Where the files of a model of Hugging Face are: a repository of the hub at one commit, or a folder."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError

from dinodiet.backbones.weights.files import first_line, shard_names
from dinodiet.backbones.weights.released import AHEAD, HubFile
from dinodiet.errors import NotOnDisk, UserError
from dinodiet.io.assets import Asset
from dinodiet.io.files import parse_json

CONFIG = ("config.json",)
PROCESSOR = ("preprocessor_config.json", "processor_config.json")
CARD = ("README.md",)
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_LARGEST = 1 << 20  # bytes of a configuration
_TOO_LARGE = "it is larger than a configuration can be"


@dataclass(frozen=True)
class Repository:
    """A model's files by their names: `name` is `USER/MODEL` on the hub, or a folder of `save_pretrained`.

    `revision` is a branch, tag or commit of the hub; None: its main branch, once a file of it is there: that commit.

    Raises:
        UserError: the name is neither a folder nor a name of the hub.
    """

    name: str
    revision: str | None = None

    def __post_init__(self) -> None:
        if self.folder is not None:
            if self.revision is not None:
                raise UserError(f"revision: {self.revision!r}, but name is a folder; leave it null")
        elif not _HUB_NAME.fullmatch(self.name):
            raise UserError(f"name: {self.name!r} is no folder and no USER/MODEL of the hub")

    @property
    def folder(self) -> Path | None:
        """Return the folder; None: the model is on the hub."""
        path = Path(self.name).expanduser()
        return path if path.is_dir() else None

    def at_commit(self, file: Path) -> Repository:
        """Return the repository at the commit that a cached file of it belongs to; a folder is as it is."""
        return self if self.folder is not None else replace(self, revision=file.parent.name)

    def find(self, names: tuple[str, ...]) -> Path | None:
        """Return the first of these files that is on this machine, None where none is."""
        if (folder := self.folder) is not None:
            return next((folder / name for name in names if (folder / name).is_file()), None)
        files = (HubFile(self.name, name, revision=self.revision) for name in names)
        return next((found for file in files if (found := file.find())), None)

    def get(self, names: tuple[str, ...]) -> Path:
        """Return the first of these files that there is, fetched where it is not on this machine.

        Raises:
            UserError: there is none, or it cannot be fetched.
        """
        if (found := self.find(names)) is not None:
            return found
        if (folder := self.folder) is not None:
            raise UserError(f"name: {folder.absolute()} has no {' or '.join(names)}")
        return next(filter(None, (self._fetched(name, last=name == names[-1]) for name in names)))

    def _fetched(self, name: str, last: bool) -> Path | None:
        """Return a file of the hub; None: there is no such file, and another may serve."""
        try:
            return HubFile(self.name, name, revision=self.revision).get()
        except UserError as error:
            if isinstance(error.__cause__, EntryNotFoundError) and not last:
                return None
            raise UserError(str(error).replace("weights: hub, but ", "name: ", 1)) from error

    def require(self, names: tuple[str, ...]) -> Path:
        """Return the first of these files that is on this machine; nothing is fetched.

        Raises:
            NotOnDisk: none is.
        """
        if (found := self.find(names)) is None:
            raise NotOnDisk(f"name: {names[0]} of {self.name} is not on this machine; {AHEAD}")
        return found

    def find_weights(self) -> Path | None:
        """Return the file of the weights, or the index of its shards if all are on this machine; else None."""
        path = self.find(WEIGHTS)
        if path is not None and path.name.endswith(".index.json") and self.folder is None:
            there = self.at_commit(path)
            return path if all(there.find((name,)) for name in shard_names(path)) else None
        return path

    def get_weights(self) -> Path:
        """Return the file of the weights, or the index of its shards, fetched where they are not on this machine.

        The model card comes with them, where there is one.

        Raises:
            UserError: as `get`, or a shard is named that is not there.
        """
        path = self.get(WEIGHTS)
        if self.folder is None:
            there = self.at_commit(path)
            for name in shard_names(path) if path.name.endswith(".index.json") else ():
                there.get((name,))
            with contextlib.suppress(UserError):
                there.get(CARD)
        return path


def read_text(path: Path) -> str:
    """Return the text of a configuration: JSON that holds a mapping.

    Raises:
        UserError: as `mapping_in`, or it cannot be read.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(_TOO_LARGE)
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"name: {path} cannot be read as JSON ({first_line(error)})") from error
    mapping_in(text, path)
    return text


def mapping_in(text: str, where: object) -> dict[str, Any]:
    """Return the mapping that JSON holds; `where` is what to call it.

    Raises:
        UserError: it is no JSON, no mapping, or larger than a configuration can be.
    """
    try:
        if len(text) > _LARGEST:
            raise ValueError(_TOO_LARGE)
        found = parse_json(text)
    except ValueError as error:
        raise UserError(f"name: {where} cannot be read as JSON ({first_line(error)})") from error
    if not isinstance(found, dict):
        raise UserError(f"name: {where} holds a {type(found).__name__}, not a mapping")
    return found


def licence_of(repository: Repository) -> str | None:
    """Return the licence in the head of a model card that is on this machine; None: it is not told."""
    card = repository.find(CARD)
    head = card and re.match(r"---\n(.*?)\n---", card.read_text(errors="replace"), re.DOTALL)
    try:
        facts = yaml.safe_load(head[1]) if head else None
    except yaml.YAMLError:
        return None
    if not isinstance(facts, Mapping):
        return None
    name = facts.get("license_name") if facts.get("license") == "other" else facts.get("license")
    return None if name is None else str(name)


def assets_of(repository: Repository, weights: str) -> list[Asset]:
    """Return the files that a model needs; of a folder nothing has to be fetched."""
    if repository.folder is not None:
        return [Asset(repository.name, str(repository.folder), lambda: repository.folder, lambda: repository.folder)]
    place = constants.HF_HUB_CACHE
    assets = [
        Asset(f"{repository.name}/{names[0]}", place, partial(repository.find, names), partial(repository.get, names))
        for names in (CONFIG, PROCESSOR)
    ]
    if weights == "hub":
        assets.append(Asset(f"{repository.name}/{WEIGHTS[0]}", place, repository.find_weights, repository.get_weights))
    return assets
