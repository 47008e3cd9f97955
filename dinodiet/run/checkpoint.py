"""Checkpoints: atomic to write, checked when read, refused when they belong to another configuration."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from dinodiet.errors import UserError
from dinodiet.io.files import write_atomically
from dinodiet.store.rundir import RunDir

# What torch.load raises for a file that was cut short or is no checkpoint.
_BROKEN = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError, ValueError)


def save(run_dir: RunDir, state: dict[str, Any]) -> None:
    """Write a checkpoint and keep the one before it; a kill at any moment leaves at least one that can be read."""
    if run_dir.checkpoint.exists():
        run_dir.checkpoint.replace(run_dir.previous_checkpoint)
    write_atomically(run_dir.checkpoint, lambda stream: torch.save(state, stream))


def load(run_dir: RunDir, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the newest checkpoint that can be read, or None where there is none.

    Raises:
        UserError: the checkpoint was written under another configuration; names the keys that differ.
    """
    for path in (run_dir.checkpoint, run_dir.previous_checkpoint):
        if not path.exists():
            continue
        try:
            state = read(path)
        except UserError as broken:
            warnings.warn(f"{broken}; trying the one before it", stacklevel=2)
            continue
        refuse_other_configuration(path, state, identity)
        return state
    return None


def read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint file, on the CPU.

    Raises:
        UserError: the file is absent, truncated, or no checkpoint.
    """
    if not path.is_file():
        raise UserError(f"checkpoint: {path} does not exist")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        raise UserError(f"checkpoint: {path} cannot be read ({type(error).__name__})") from error
    if not isinstance(state, dict) or "identity" not in state:
        raise UserError(f"checkpoint: {path} was not written by dinodiet")
    return state


def refuse_other_configuration(path: Path, state: dict[str, Any], identity: dict[str, Any]) -> None:
    """Raise UserError, naming the keys that differ, if the checkpoint was written under another configuration."""
    theirs, ours = flatten(state["identity"]), flatten(identity)
    absent = object()
    differ = [key for key in sorted({*theirs, *ours}) if theirs.get(key, absent) != ours.get(key, absent)]
    if differ:
        shown = ", ".join(
            f"{key} ({theirs.get(key, 'absent')} there, {ours.get(key, 'absent')} here)" for key in differ
        )
        raise UserError(f"checkpoint: {path} was written under another configuration: {shown}")


def flatten(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration as {dotted key: value}."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
