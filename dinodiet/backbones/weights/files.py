"""Checkpoint files, whoever wrote them, and what a run of this package left: the weights of its evaluated encoder.

Nothing in a file is ever executed. Files are memory-mapped where their format allows it.
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from dinodiet.backbones.weights import pickles
from dinodiet.backbones.weights.foreign import JOIN, foreign, is_safetensors
from dinodiet.backbones.weights.network import module_state
from dinodiet.errors import UserError, one_line
from dinodiet.io.limits import raise_limit
from dinodiet.store.rundir import RunDir
from dinodiet.store.status import read_status

_INDEX = ".index.json"  # Hugging Face's list of the shards that hold a model
IN_FOLDER = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".tar", ".distcp")
_INSIDE = "model."  # what the package's backbones call the network in them


def read_file(path: Path) -> dict[str, Any]:
    """Return a checkpoint of torch or safetensors, on the CPU; nothing that it names is run or imported.

    Raises:
        UserError: it is damaged, or no checkpoint, or calls something when it is opened.
    """
    try:
        if (what := foreign(path)) is not None:
            raise UserError(f"weights: {path} {what}")
        state: Any = load_file(path) if is_safetensors(path) else _of_torch(path)
    except pickles.RefusedError as error:
        raise UserError(
            f"weights: {path} cannot be read as a checkpoint: {error} when it is opened, which weights have no need of"
        ) from error
    except UserError:
        raise
    except Exception as error:  # a damaged or foreign file fails in torch, zipfile, pickle or safetensors
        raise_limit(error, path)
        raise UserError(f"weights: {path} cannot be read as a checkpoint ({first_line(error)})") from error
    state = module_state(state)
    if not isinstance(state, dict):
        raise UserError(f"weights: {path} holds a {type(state).__name__}, not a checkpoint")
    return state


def _of_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other protocols
            return torch.load(path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True)
    except pickle.UnpicklingError:  # it holds more than tensors
        return pickles.load(path)


def first_line(error: Exception) -> str:
    """Return an error's type and the start of its text."""
    return f"{type(error).__name__}: {one_line(error)}"[:200]


def run_file(weights: str) -> Path | None:
    """Return the file with the encoder of a run: of its directory, or of one of the files that it leaves.

    None: `weights` is something else.

    Raises:
        UserError: the run is not finished; or it is the weights of a method, without those of the encoder beside it.
    """
    path = Path(weights).expanduser()
    run = RunDir(path if path.is_dir() else path.parent)
    if path.is_dir():
        if not run.encoder.is_file() and (run.status.is_file() or run.checkpoint.is_file()):
            raise UserError(f"weights: {path} is a run that is not finished{_step_of(run)}; finish it first{_or(run)}")
        return run.encoder if run.encoder.is_file() else None
    if path.name == run.weights.name and path.is_file():
        if not run.encoder.is_file():
            raise UserError(f"weights: {path} holds a whole method; its encoder, {run.encoder.name}, is not beside it")
        return run.encoder
    return path if path.name == run.encoder.name or path.suffix == ".pt" else None


def _step_of(run: RunDir) -> str:
    content = read_status(run) or {}
    return f" (step {content['step']:,} of {content['total_steps']:,})" if content.get("total_steps") else ""


def _or(run: RunDir) -> str:
    return f", or give {run.checkpoint}" if run.checkpoint.is_file() else ""


def weights_path(weights: str) -> Path:
    """Return the file that `weights` names: of a run, a checkpoint, or in a folder of Hugging Face.

    Raises:
        UserError: there is none.
    """
    path = run_file(weights) or Path(weights).expanduser()
    if path.is_dir():
        path = next((path / file for file in IN_FOLDER if (path / file).is_file()), path)
    if path.is_file():
        return path
    if path.is_dir():
        raise UserError(
            f"weights: {path.absolute()} is a folder without model.safetensors or pytorch_model.bin{_files_in(path)}"
        )
    raise UserError(f"weights: no file {path.absolute()}; choose from: hub, none, or a file that exists")


def _files_in(folder: Path) -> str:
    names = sorted(file.name for file in folder.iterdir() if file.suffix in _SUFFIXES)
    if any(name.endswith(".distcp") for name in names):
        return f"; it is a distributed checkpoint: {JOIN}"
    return f"; it has {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}: give that file" if names else ""


def shards_of(path: Path) -> list[Path]:
    """Return the files of a checkpoint, each once: those that an index names, or itself.

    Raises:
        UserError: the index cannot be read, or names a file that is not beside it.
    """
    if not path.name.endswith(_INDEX):
        return [path]
    names = shard_names(path)
    for name in names:
        if not (path.parent / name).is_file():
            raise UserError(f"weights: {path} names {name}, but there is no such file beside it")
    return [path.parent / name for name in names]


def shard_names(index: Path) -> list[str]:
    """Return the names of the files that an index of shards names, each once.

    Raises:
        UserError: the index cannot be read, or names a file elsewhere.
    """
    try:
        names = sorted({str(name) for name in json.loads(index.read_text())["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"weights: {index} cannot be read as an index of shards ({first_line(error)})") from error
    for name in names:
        if Path(name).name != name:
            raise UserError(f"weights: {index} names {name}, but there is no such file beside it")
    return names


def read_all(path: Path) -> dict[str, Any]:
    """Return a checkpoint of one or several files; raises as `read_file` and `shards_of`."""
    state: dict[str, Any] = {}
    for shard in shards_of(path):
        state |= read_file(shard)
    return state


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
    try:
        model = json.loads(header(path)["model"])
        return f" (trained: {', '.join(str(model[key]) for key in ('family', 'size') if model.get(key))})"
    except (KeyError, ValueError, TypeError, AttributeError):
        return ""


def header(path: Path) -> dict[str, str]:
    """Return what a file of safetensors says of itself besides its tensors; nothing where it is none."""
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}
