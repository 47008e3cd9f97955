"""Find every model x size in configuration folders, and describe each without its weights and without its memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from dinodiet.backbones.meta import backbone_on_meta
from dinodiet.catalogue.choices import Folders
from dinodiet.config.build import declared
from dinodiet.errors import NotReleased, UserError, one_line
from dinodiet.types import Backbone, DataSpec

ANY_DATA = DataSpec("any", num_images=1000, num_labels=10)  # images of no common size: the model's own decides


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
    folders = Folders(config_dir)
    folders.require("model")
    names = folders.names("model")
    return [_model(name, folders.node("model", name, resolve=True), names) for name in names]


def _model(name: str, node: dict[str, Any], names: Sequence[str]) -> Model:
    """Return a choice: with all its sizes, or, as a preset of a family that is a choice itself, with its own."""
    family = node.get("family")
    preset = family != name and family in names
    own = [None if node.get("size") is None else str(node["size"])]
    sizes = declared(node, f"model/{name}.yaml", "sizes")
    return Model(name, node, sizes[-1]() if sizes and not preset else own, preset)


def describe(model: Model, size: str | None) -> Entry:
    """Return the facts of one size of a model; one that cannot be built has a note."""
    node = model.node if size is None else {**model.node, "size": size}
    try:
        backbone, weights = _built(node)
    except NotReleased:
        return Entry(model.name, size, weights="unreleased")
    except (UserError, NotImplementedError, RuntimeError) as error:
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
        licence=backbone.description.licence if weights != "file" else None,
    )


def _built(node: dict[str, Any]) -> tuple[Backbone, str | None]:
    """Return a backbone, and where its weights are.

    Raises:
        NotReleased: nothing of this size is public.
        UserError: it cannot be built.
    """
    if not declared(node, "model", "assets"):
        return backbone_on_meta(node, ANY_DATA), None
    try:
        return backbone_on_meta({**node, "weights": "hub"}, ANY_DATA), "hub"
    except NotReleased:
        return backbone_on_meta({**node, "weights": "none"}, ANY_DATA), "file"
