"""Trained weights to take away: safetensors of the whole method, and of the evaluated encoder apart."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dinodiet.config.signature import Node
from dinodiet.errors import UserError, one_line
from dinodiet.io.files import atomic_file, parse_json
from dinodiet.store.rundir import RunDir
from dinodiet.types import InputSpec

FORMAT = "1"  # of both files


def write_weights(run_dir: RunDir, method: nn.Module, encoder: nn.Module, model: Node, input: InputSpec) -> None:
    """Write the weights of a trained method, and of its evaluated encoder under the names of the backbone."""
    metadata = {"format": FORMAT, "model": json.dumps(model), "input": json.dumps(asdict(input))}
    _write(run_dir.weights, method.state_dict(), {"format": FORMAT})
    _write(run_dir.encoder, encoder.state_dict(), metadata)


def _write(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    with atomic_file(path) as unfinished:
        save_file(tensors, unfinished, metadata)


def read_encoder(path: Path) -> tuple[dict[str, Tensor], Node, dict[str, Any]]:
    """Return an encoder's state dict, the node of its model, and its input specification as plain values.

    Raises:
        UserError: the file is absent, broken, or of another format.
    """
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
    try:
        model, spec = (parse_json(metadata[name]) for name in ("model", "input"))
    except (KeyError, ValueError) as error:
        raise UserError(f"checkpoint: {path} does not say of which model it is ({one_line(error)})") from error
    if not (isinstance(model, dict) and isinstance(spec, dict)):
        raise UserError(f"checkpoint: {path} does not say of which model it is")
    return state, model, spec
