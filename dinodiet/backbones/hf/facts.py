"""What is known of a model of transformers besides its weights: as its repository says it, or as a run kept it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dinodiet.backbones.hf.configuration import Architecture, architecture
from dinodiet.backbones.hf.processor import Processor, processor
from dinodiet.backbones.hf.repository import CONFIG, PROCESSOR, Repository, licence_of, mapping_in, read_text
from dinodiet.backbones.meta import on_meta
from dinodiet.backbones.weights.files import header, run_file
from dinodiet.config.describe import shown
from dinodiet.errors import UserError, printable
from dinodiet.io.files import parse_json

COMMIT = re.compile(r"\w[\w.-]{0,99}")


@dataclass(frozen=True)
class Facts:
    """The text of `config.json` and of the image processor's file, the licence of the card, and the commit.

    `whose` is what to call them; None of the others: it is not told, and of a folder there is no commit.
    """

    whose: str
    config: str
    processor: str
    licence: str | None = None
    revision: str | None = None

    @property
    def architecture(self) -> Architecture:
        """Return the class and configuration of the model; a UserError where they describe none."""
        return architecture(mapping_in(self.config, f"config.json of {self.whose}"), self.whose)

    @property
    def input(self) -> Processor:
        """Return what the model expects of its images; a UserError where it is not told."""
        kind = mapping_in(self.config, f"config.json of {self.whose}").get("model_type")
        return processor(mapping_in(self.processor, f"the image processor of {self.whose}"), self.whose, kind)

    @property
    def rebuilds(self) -> dict[str, Any]:
        """Return the setting `kept` that builds the same model without the repository."""
        told = {name: value for name, value in asdict(self).items() if value is not None and name != "whose"}
        return {"kept": told}


def kept_facts(kept: Mapping[str, str], whose: str) -> Facts:
    """Return what a run kept, which may be from elsewhere: it is text, and read as that of a repository is.

    Raises:
        UserError: it is not what a run keeps.
    """
    known = {field.name for field in fields(Facts)} - {"whose"}
    revision, licence = kept.get("revision"), kept.get("licence")
    if not {"config", "processor"} <= {*kept} <= known or not COMMIT.fullmatch(revision or "main"):
        raise UserError(f"kept: {shown(dict(kept))}; a run keeps {', '.join(sorted(known))}")
    told = None if licence is None else printable(licence)
    return Facts(whose, kept["config"], kept["processor"], told, revision)


def facts_of_run(weights: str, name: str | None, revision: str | None) -> Facts | None:
    """Return what the run that `weights` names has kept of its model; None: it has nothing, or of another model.

    `name` and `revision` are those that are asked for; null: those of the run.

    Raises:
        UserError: as `run_file` and `kept_facts`.
    """
    path = None if weights in ("hub", "none") else run_file(weights)
    told = {} if path is None else header(path)
    try:
        node, rebuilds = (parse_json(told.get(key, "{}")) for key in ("model", "rebuilds"))
        own, kept = node.get("name"), rebuilds.get("kept")
    except (ValueError, AttributeError):  # a file from elsewhere
        return None
    whole = isinstance(kept, dict) and all(isinstance(value, str) for value in kept.values())
    if not whole or name not in (None, own) or revision not in (None, node.get("revision"), kept.get("revision")):
        return None
    return kept_facts(kept, str(own))


def facts_in(repository: Repository) -> Facts:
    """Return what a repository says; its files are fetched where that is possible and needed.

    Raises:
        NotOnDisk: on the meta device, where they are not on this machine.
        UserError: there are none, they cannot be fetched, or are no JSON.
    """
    take = Repository.require if on_meta() else Repository.get
    config = take(repository, CONFIG)
    there = repository.at_commit(config)
    images = read_text(take(there, PROCESSOR))
    return Facts(there.name, read_text(config), images, licence_of(there), there.revision)


def family_facts(
    repository: Repository, config: Mapping[str, Any], images: Mapping[str, Any], whose: str, *, fetch: bool
) -> Facts:
    """Return what the repository of a family's size says, and where that is not on this machine what is written here.

    Raises:
        UserError: files are wanted with `fetch` and cannot be had, or are no JSON.
    """
    find = Repository.get if fetch else Repository.find
    written, path = json.dumps(images), find(repository, CONFIG)
    if path is None:
        return Facts(whose, json.dumps(config), written, licence_of(repository))
    there = repository.at_commit(path)
    asked = find(there, PROCESSOR)
    text = written if asked is None else read_text(asked)
    return Facts(there.name, read_text(path), text, licence_of(there), there.revision)
