"""Checkpoint files, whoever wrote them, and what a run of this package left: the weights of its evaluated encoder.

Nothing in a file is ever executed. Files are memory-mapped where their format allows it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from dinodiet.errors import UserError, one_line
from dinodiet.store.rundir import RunDir

_INSIDE = "model."  # what the package's backbones call the network in them


def read_file(path: Path) -> dict[str, Any]:
    """Return a checkpoint of torch or safetensors, on the CPU.

    Raises:
        UserError: it is damaged, or no checkpoint.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with _training_arguments():
            state: dict[str, Any] = torch.load(
                path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True
            )
    except Exception as error:  # a damaged or foreign file fails in torch, zipfile, pickle or safetensors
        raise UserError(f"weights: {path} cannot be read as a checkpoint ({first_line(error)})") from error
    if not isinstance(state, dict):
        raise UserError(f"weights: {path} holds a {type(state).__name__}, not a checkpoint")
    return state


def _training_arguments() -> contextlib.AbstractContextManager[Any]:
    """Let training checkpoints bring the parsed arguments that many hold; torch before 2.5 refuses them."""
    allowed: Any = getattr(torch.serialization, "safe_globals", None)
    return contextlib.nullcontext() if allowed is None else allowed([argparse.Namespace])


def first_line(error: Exception) -> str:
    """Return an error's type and the start of its text."""
    return f"{type(error).__name__}: {one_line(error)}"[:200]


def run_file(weights: str) -> Path | None:
    """Return the file with the encoder of a run: of its directory, or of one of the files that it leaves.

    None: `weights` is something else.

    Raises:
        UserError: it is the weights of a method, without those of the encoder beside it.
    """
    path = Path(weights).expanduser()
    run = RunDir(path if path.is_dir() else path.parent)
    if path.is_dir():
        return next((file for file in (run.encoder, run.checkpoint, run.previous_checkpoint) if file.is_file()), None)
    if path.name == run.weights.name and path.is_file():
        if not run.encoder.is_file():
            raise UserError(f"weights: {path} holds a whole method; its encoder, {run.encoder.name}, is not beside it")
        return run.encoder
    return path if path.name == run.encoder.name or path.suffix == ".pt" else None


def encoder_in(state: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Return the evaluated encoder in a run's checkpoint, under its backbone's names; None: it is another file."""
    place, method = state.get("encoder"), state.get("method")
    if not isinstance(place, str) or not isinstance(method, Mapping):
        return None
    return {key.removeprefix(f"{place}."): value for key, value in method.items() if key.startswith(f"{place}.")}


def network_in(state: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """Return the network of a run's encoder under the names of the network itself; None: `state` is none of a run's."""
    encoder = encoder_in(state) or dict(state)
    if not encoder or not all(key.startswith(_INSIDE) for key in encoder):
        return None
    return {key.removeprefix(_INSIDE): value for key, value in encoder.items()}


def whose(path: Path) -> str:
    """Return of which model a run's encoder is, in words; nothing where the file does not say."""
    if path.suffix != ".safetensors":
        return ""
    try:
        with safe_open(path, "pt") as file:
            model = json.loads((file.metadata() or {})["model"])
        return f" (trained: {', '.join(str(model[key]) for key in ('family', 'size') if model.get(key))})"
    except (OSError, SafetensorError, KeyError, ValueError, TypeError, AttributeError):
        return ""
