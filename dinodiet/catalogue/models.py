"""Find every model x size in configuration folders, and describe each without its weights and without its memory."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.object_type import ObjectType
from hydra.errors import HydraException
from hydra.types import RunMode
from hydra.utils import get_object
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import nn

from dinodiet.backbones.planned import planned_backbone
from dinodiet.config.places import CONF
from dinodiet.errors import UserError, one_line
from dinodiet.types import Backbone, DataSpec

ANY_DATA = DataSpec("any", num_images=1000, num_labels=10)  # pictures of no common size: the model's own decides
NO_HUB, UNRELEASED = "has no released weights", "was never released"  # words of the refusals


@dataclass(frozen=True)
class Model:
    """A choice of the group `model`: its node, and the sizes it can be asked for (None: it has one and no key).

    `preset`: it only sets the size of another choice (vit_tiny of vit), and stands for that size.
    """

    name: str
    node: dict[str, Any]
    sizes: Sequence[str | None]
    preset: bool = False


@dataclass(frozen=True)
class Entry:
    """A model in one size.

    Attributes:
        model, size: what to choose on the command line.
        parameters, features, blocks: of the backbone as it is used: without classifier, and without blocks that the
            embedding does not depend on. `blocks` is what `trainable: last_<n>_blocks` counts. None: not known.
        pixels: side of its input, where the dataset sets none.
        weights: `hub`; `file` where none are on a hub; `unreleased` where the model is not public either; None: of a
            part of one's own, not known.
        licence: of the weights on the hub.
        note: why it cannot be described, in one line.
    """

    model: str
    size: str | None
    parameters: int | None = None
    features: int | None = None
    blocks: int | None = None
    pixels: int | None = None
    weights: str | None = None
    licence: str | None = None
    note: str | None = None


def models(config_dir: Path | None = None) -> list[Model]:
    """Return the models of `conf/`, and of a folder of one's own, by name.

    Raises:
        UserError: there is no such folder, or a file cannot be composed.
    """
    folders = [CONF, *([] if config_dir is None else [config_dir])]
    for folder in folders:
        if not (folder / "model").is_dir():
            raise UserError(f"{folder.absolute()}: no folder model/ in it")
    search = create_config_search_path(str(CONF))
    for folder in folders[1:]:
        search.prepend("command-line", str(folder.absolute()), anchor="schema")  # which Hydra wants last
    loader = ConfigLoaderImpl(config_search_path=search)
    found: list[Model] = []
    families: set[str] = set()
    for name in loader.get_group_options("model", results_filter=ObjectType.CONFIG):
        node = _composed(loader, name)
        family = json.dumps({key: node[key] for key in sorted(node) if key not in ("size", "weights", "published")})
        own = [None if node.get("size") is None else str(node["size"])]
        found.append(Model(name, node, own if family in families else _sizes(name, node, own), family in families))
        families.add(family)
    return found


def describe(model: Model, size: str | None) -> Entry:
    """Return the facts of one size of a model; one that cannot be built has a note."""
    node = model.node if size is None else {**model.node, "size": size}
    try:
        backbone, weights = _built(node)
    except (UserError, NotImplementedError, RuntimeError) as error:
        if UNRELEASED in str(error):
            return Entry(model.name, size, weights="unreleased")
        return Entry(model.name, size, note=one_line(error))
    assert isinstance(backbone, nn.Module)
    return Entry(
        model.name,
        size,
        parameters=sum(parameter.numel() for parameter in backbone.parameters()),
        features=backbone.embed_dim,
        blocks=len(backbone.freezable_blocks()),
        pixels=backbone.input.size,
        weights=weights,
        licence=_licence(node, backbone) if weights == "hub" else None,
    )


def _built(node: dict[str, Any]) -> tuple[Backbone, str | None]:
    """Return a backbone, and where its weights are."""
    if not str(node["_target_"]).startswith("dinodiet."):
        return planned_backbone(node, ANY_DATA), None
    try:
        return planned_backbone({**node, "weights": "hub"}, ANY_DATA), "hub"
    except UserError as error:
        if NO_HUB not in str(error):
            raise
        return planned_backbone({**node, "weights": "none"}, ANY_DATA), "file"


def _composed(loader: ConfigLoaderImpl, name: str) -> dict[str, Any]:
    try:
        config = loader.load_configuration(f"model/{name}", overrides=[], run_mode=RunMode.RUN)
        node = OmegaConf.to_container(config.model, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"model/{name}.yaml: {' '.join(str(error).split())}") from error
    if not isinstance(node, dict) or "_target_" not in node:
        raise UserError(f"model: no _target_ in model/{name}.yaml; it names the class or function to build")
    return {str(key): value for key, value in node.items()}


def _sizes(name: str, node: Mapping[str, Any], own: list[str | None]) -> Sequence[str | None]:
    """Return the keys of `names`, or of the `SIZES` beside the factory; else the one that the file says."""
    if isinstance(node.get("names"), dict):
        return [str(size) for size in node["names"]]
    sizes = getattr(_module(name, node), "SIZES", None)
    return list(sizes) if isinstance(sizes, Mapping) else own


def _licence(node: Mapping[str, Any], backbone: Any) -> str | None:
    """Return what timm knows of the weights, or the `LICENCE` beside the factory."""
    cfg = getattr(getattr(backbone, "model", None), "pretrained_cfg", {})
    licence = cfg.get("license") or getattr(_module("", node), "LICENCE", None)
    return None if licence is None else str(licence)


def _module(name: str, node: Mapping[str, Any]) -> Any:
    try:
        return sys.modules[get_object(node["_target_"]).__module__]
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"model/{name}.yaml: _target_: {node['_target_']!r} cannot be imported") from error
