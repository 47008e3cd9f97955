"""Trained weights to take away: safetensors of the whole method, and of the evaluated encoder apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dinodiet.backbones.adapters import merged
from dinodiet.config.describe import shown
from dinodiet.config.schema import Tower
from dinodiet.config.signature import Node
from dinodiet.errors import UserError, one_line
from dinodiet.io.files import atomic_file, parse_json
from dinodiet.methods.base import MethodBase
from dinodiet.store.rundir import RunDir
from dinodiet.training.shards import whole_method
from dinodiet.types import Backbone

FORMAT = "1"  # of both files
LARGEST = 8 << 20  # characters of what rebuilds a backbone


@dataclass(frozen=True)
class Stored:
    """A trained encoder as its run keeps it.

    `state` is its state dict, `model` the node of its model, `input` its input specification as plain values, and
    `rebuilds` settings that the node lacks, see `Description`; files of earlier versions have none.
    """

    state: dict[str, Tensor]
    model: Node
    input: dict[str, Any]
    rebuilds: Node = field(default_factory=dict)


def write_weights(run_dir: RunDir, method: MethodBase, model: Node, backbone: Backbone) -> None:
    """Write the weights of a trained method, and of its evaluated encoder under the names of the backbone.

    Adapters stand apart in the method's file, and are merged in the encoder's. Of a method that trains nothing the
    encoder is all there is. Of several processes the others call `whole_method` meanwhile.
    """
    metadata = {"format": FORMAT, "model": json.dumps(model), "input": json.dumps(asdict(backbone.input))}
    metadata |= rebuilds_of(backbone)
    state = whole_method(method)
    if method.trains:
        _write_method(run_dir.weights, method, state)
    _write(run_dir.encoder, merged(below(path_of(method.encoder, method), state)), metadata)


def write_whole(path: Path, method: MethodBase) -> None:
    """Write the weights of a whole method, with where the evaluated encoder and the trained backbone lie.

    Of several processes the others call `whole_method` meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_method(path, method, whole_method(method))


def places_of(method: MethodBase) -> dict[str, str]:
    """Return the dotted names of the evaluated encoder and of the backbone that gradients train."""
    return {"encoder": path_of(method.encoder, method), "trained": path_of(method.towers()[0], method)}


def rebuilds_of(backbone: Backbone) -> dict[str, str]:
    """Return, as the metadata `rebuilds`, what a backbone is built of besides its node; empty where that is all."""
    rebuilds = dict(backbone.description.rebuilds)
    return {"rebuilds": json.dumps(rebuilds)} if rebuilds else {}


def stored_in(content: Mapping[str, Any], path: Path, encoder: str) -> Stored:
    """Return what a checkpoint, read from a path, holds of the module that has the dotted name `encoder`, merged.

    Raises:
        UserError: what it says of its model is no text of settings.
    """
    return Stored(
        merged(below(encoder, content["method"])), content["model"], content["input"], _rebuilds_in(content, path)
    )


def _rebuilds_in(kept: Mapping[str, Any], path: Path) -> Node:
    """Return the settings that a file keeps as text; it may be from elsewhere, and names nothing to build."""
    text = kept.get("rebuilds", "{}")
    try:
        found = parse_json(text) if isinstance(text, str) and len(text) <= LARGEST else None
    except ValueError:
        found = None
    if not isinstance(found, dict) or "_target_" in str(found):
        raise UserError(f"checkpoint: {path} does not say what its model was built of: {shown(text)}")
    return found


def path_of(module: nn.Module, root: nn.Module) -> str:
    """Return the dotted name of a module below `root`: where its weights lie among those of the whole."""
    names: list[str] = [name for name, candidate in root.named_modules() if candidate is module]
    return names[0]


def below(path: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the module that has this dotted name, under its own names."""
    prefix = f"{path}."
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _write_method(path: Path, method: MethodBase, state: dict[str, Tensor]) -> None:
    _write(path, state, {"format": FORMAT, **places_of(method)})


def _write(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_file(path) as unfinished:
        save_file(tensors, unfinished, metadata)


def read_encoder(path: Path) -> Stored:
    """Return the encoder that a file holds.

    Raises:
        UserError: the file is absent, broken, or of another format.
    """
    state, metadata = _read(path)
    try:
        model, spec = (parse_json(metadata[name]) for name in ("model", "input"))
    except (KeyError, ValueError) as error:
        raise UserError(f"checkpoint: {path} does not say of which model it is ({one_line(error)})") from error
    if not (isinstance(model, dict) and isinstance(spec, dict)):
        raise UserError(f"checkpoint: {path} does not say of which model it is")
    return Stored(state, model, spec, _rebuilds_in(metadata, path))


def read_whole(path: Path) -> dict[str, Tensor]:
    """Return the state dict of a whole method.

    Raises:
        UserError: as `read_encoder`.
    """
    return _read(path)[0]


def read_trained_tower(path: Path) -> dict[str, Tensor]:
    """Return the state dict of the backbone that gradients train, from the file of a whole method; merged.

    Raises:
        UserError: as `read_encoder`.
    """
    state, metadata = _read(path)
    tower = below(metadata.get("trained", ""), state)
    if not tower:
        raise UserError(f"tower: {path} does not say which of its parts is the trained backbone; take tower=evaluated")
    return merged(tower)


def read_apart(path: Path, tower: Tower) -> dict[str, Tensor]:
    """Return the state dict of a tower from the file of a whole method, with its adapters apart.

    Raises:
        UserError: as `read_encoder`, or an earlier version wrote the file, which did not say where the tower lies.
    """
    state, metadata = _read(path)
    found = below(metadata.get("encoder" if tower == "evaluated" else "trained", ""), state)
    if not found:
        raise UserError(f"checkpoint: {path} does not say where the {tower} backbone lies; earlier versions did not")
    return found


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file."""
    if not path.is_file():
        raise UserError(f"checkpoint: {path} does not exist")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        state = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"checkpoint: {path} cannot be read ({type(error).__name__})") from error
    if metadata.get("format") != FORMAT:
        raise UserError(f"checkpoint: {path} has format {metadata.get('format')}; this version reads {FORMAT}")
    return state, metadata
