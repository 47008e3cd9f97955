"""Trained weights to take away: safetensors of the whole method, and of the evaluated encoder apart."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dinodiet.config.signature import Node
from dinodiet.errors import UserError, one_line
from dinodiet.io.files import atomic_file, parse_json
from dinodiet.methods.base import MethodBase
from dinodiet.store.rundir import RunDir
from dinodiet.types import InputSpec

FORMAT = "1"  # of both files


def write_weights(run_dir: RunDir, method: MethodBase, model: Node, input: InputSpec) -> None:
    """Write the weights of a trained method, and of its evaluated encoder under the names of the backbone."""
    metadata = {"format": FORMAT, "model": json.dumps(model), "input": json.dumps(asdict(input))}
    _write(run_dir.weights, method.state_dict(), {"format": FORMAT, "trained": path_of(method.towers()[0], method)})
    _write(run_dir.encoder, method.encoder.state_dict(), metadata)


def path_of(module: nn.Module, root: nn.Module) -> str:
    """Return the dotted name of a module below `root`: where its weights lie among those of the whole."""
    names: list[str] = [name for name, candidate in root.named_modules() if candidate is module]
    return names[0]


def below(path: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the module that has this dotted name, under its own names."""
    prefix = f"{path}."
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}


def _write(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_file(path) as unfinished:
        save_file(tensors, unfinished, metadata)


def read_encoder(path: Path) -> tuple[dict[str, Tensor], Node, dict[str, Any]]:
    """Return an encoder's state dict, the node of its model, and its input specification as plain values.

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
    return state, model, spec


def read_trained_tower(path: Path) -> dict[str, Tensor]:
    """Return the state dict of the backbone that gradients train, from the file of a whole method.

    Raises:
        UserError: as `read_encoder`.
    """
    state, metadata = _read(path)
    tower = below(metadata.get("trained", ""), state)
    if not tower:
        raise UserError(f"tower: {path} does not say which of its parts is the trained backbone; take tower=evaluated")
    return tower


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
