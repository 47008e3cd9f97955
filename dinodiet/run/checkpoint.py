"""Checkpoints: atomic to write, checked when read, refused when they belong to another training."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from dinodiet.errors import UserError
from dinodiet.io.files import write_atomically
from dinodiet.io.limits import limit_of
from dinodiet.store.rundir import RunDir

FORMAT = 2
# What torch.load raises for a file that was cut short or is no checkpoint.
_BROKEN = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, LookupError, ValueError, TypeError, AttributeError)

_KINDS = {"method": dict, "model": dict, "input": dict, "encoder": str, "step": int}  # of what is read before the rest


def save(run_dir: RunDir, state: dict[str, Any]) -> None:
    """Write a checkpoint and keep the one before it; a kill at any moment leaves at least one that can be read.

    Raises:
        OSError: it cannot be written; the one before it is then the newest again.
    """
    if run_dir.checkpoint.exists():
        run_dir.checkpoint.replace(run_dir.previous_checkpoint)
    try:
        write_atomically(run_dir.checkpoint, lambda stream: torch.save({"format": FORMAT, **state}, stream))
    except BaseException:
        if run_dir.previous_checkpoint.exists() and not run_dir.checkpoint.exists():
            run_dir.previous_checkpoint.replace(run_dir.checkpoint)
        raise


def load(run_dir: RunDir, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Return the newest checkpoint that can be read, or None where there is none.

    Raises:
        UserError: the checkpoint was written under another configuration; names the keys that differ.
    """
    paths = [path for path in (run_dir.checkpoint, run_dir.previous_checkpoint) if path.exists()]
    for path in paths:
        try:
            state = read(path)
        except UserError as broken:
            instead = "the one before it is used" if path != paths[-1] else "the training begins again"
            warnings.warn(f"{broken}; {instead}", stacklevel=2)
            continue
        refuse_other_configuration(path, state["identity"], identity)
        return state
    return None


def drop(run_dir: RunDir) -> None:
    """Remove the checkpoints of a run that is done: only a resume needs them, and they are large."""
    for path in (run_dir.checkpoint, run_dir.previous_checkpoint):
        path.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint file, on the CPU.

    Raises:
        UserError: the file is absent, truncated, no checkpoint, or of another format.
        OSError, RuntimeError: this machine cannot read it at present; see `dinodiet.io.limits`.
    """
    if not path.is_file():
        raise UserError(f"checkpoint: {path} does not exist")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how a file from elsewhere was pickled
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _BROKEN as error:
        if limit_of(error) is not None:  # it may be whole: nothing is begun anew for that
            raise
        raise UserError(f"checkpoint: {path} cannot be read ({type(error).__name__})") from error
    if not isinstance(state, dict) or not isinstance(state.get("identity"), dict):
        raise UserError(f"checkpoint: {path} was not written by dinodiet")
    if state.get("format") != FORMAT:
        raise UserError(f"checkpoint: {path} has format {state.get('format')}; this version reads {FORMAT}")
    if wrong := [key for key, kind in _KINDS.items() if not isinstance(state.get(key), kind)]:
        raise UserError(f"checkpoint: {path} is not whole: {', '.join(wrong)} cannot be what a run wrote")
    return state


def refuse_other_configuration(path: Path, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Raise UserError, naming the keys that differ, if a file was written under another configuration."""
    there, here = flatten(theirs), flatten(ours)
    absent = object()
    differ = [key for key in sorted({*there, *here}) if there.get(key, absent) != here.get(key, absent)]
    if differ:
        shown = ", ".join(
            f"{key} ({there.get(key, 'default')} there, {here.get(key, 'default')} here)" for key in differ
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
