"""Weights for the package's own architectures, from the Hugging Face hub or local files, strictly, once in memory.

A model is built on the meta device and filled shard by shard, tensor by tensor: files are memory-mapped where their
format allows it, and what is mapped becomes the parameter itself. Nothing in a file is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dinodiet.backbones.meta import on_meta
from dinodiet.backbones.weights.files import first_line, network_in, read_file, run_file, whose
from dinodiet.backbones.weights.released import HubFile, no_release
from dinodiet.backbones.weights.timm import CONTAINERS, refuse_misfit, unwrap
from dinodiet.errors import UserError

_INDEX = ".index.json"  # Hugging Face's list of the shards that hold a model
_IN_FOLDER = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
_WRAPPERS = ("model.", "backbone.")  # what a module that holds the network calls it, besides those of training code


def file_to_load(weights: str, release: HubFile | None, name: str) -> Path | None:
    """Return the file to fill a model from; None: it starts from scratch, or has no values at all (`on_meta`).

    Raises:
        UserError: as `weights_file`.
    """
    if weights == "hub" and release is None:
        raise no_release(name)
    return None if weights == "none" or on_meta() else weights_file(weights, release, name)


def weights_file(weights: str, release: HubFile | None, name: str) -> Path:
    """Return the local path of `weights`: `hub`, a run, a file, an index of shards, or a folder with one of them.

    Raises:
        UserError: there is no such file, or no release, or it cannot be fetched.
    """
    if weights == "hub":
        if release is None:
            raise no_release(name)
        return release.get()
    path = run_file(weights) or Path(weights).expanduser()
    if path.is_dir():
        path = next((path / file for file in _IN_FOLDER if (path / file).is_file()), path)
    if not path.is_file():
        looked = f" with {' or '.join(_IN_FOLDER)}" if path.is_dir() else ""
        raise UserError(f"weights: no file {path.absolute()}{looked}; choose from: hub, none, or a file that exists")
    return path


def fill(
    model: nn.Module,
    path: Path,
    *,
    name: str,
    dtype: torch.dtype = torch.float32,
    ignored: Collection[str] = (),
    rename: Callable[[str], str] = str,
    containers: Sequence[str] = CONTAINERS,
) -> None:
    """Give a model, built on the meta device, the tensors of a checkpoint, floating-point ones as `dtype`.

    Args:
        model: every parameter and persistent buffer of it must be in the file, under its own name.
        path: a checkpoint of torch or safetensors, or Hugging Face's index of several.
        name: what to call the model in a message.
        dtype: of the model's parameters; without a conversion they are views of the mapped file.
        ignored: keys of the file that have no place in the model.
        rename: from the file's key names, without the prefixes of wrappers, to the model's.
        containers: where in a training checkpoint the weights are, in order of preference.

    Raises:
        UserError: the file cannot be read, or a key is missing, unexpected or of another shape.
    """
    expected = {key: value.shape for key, value in model.state_dict().items()}
    found: dict[str, torch.Size] = {}
    for shard in _shards(path):
        state = {rename(key): value for key, value in _network(read_file(shard), containers).items()}
        state = {key: value for key, value in state.items() if key not in ignored and isinstance(value, Tensor)}
        found |= {key: value.shape for key, value in state.items()}
        fitting = [key for key, value in state.items() if expected.get(key) == value.shape]
        # Popped, so that what is converted and not mapped is freed as it goes.
        model.load_state_dict({key: _cast(state.pop(key), dtype) for key in fitting}, strict=False, assign=True)
    refuse_misfit(expected, found, f"weights: {path}{whose(path)} does not fit {name}")


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value


def _shards(path: Path) -> Iterator[Path]:
    """Yield the files of a checkpoint, each once."""
    if not path.name.endswith(_INDEX):
        yield path
        return
    try:
        names = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"weights: {path} cannot be read as an index of shards ({first_line(error)})") from error
    for name in names:
        if not (path.parent / name).is_file():
            raise UserError(f"weights: {path} names {name}, but there is no such file beside it")
        yield path.parent / name


def _network(checkpoint: dict[str, Any], containers: Sequence[str]) -> dict[str, Tensor]:
    """Return the network in a checkpoint: of a run of this package, or of its publisher."""
    return network_in(checkpoint) or _without_wrapper(unwrap(checkpoint, containers))


def _without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if state and all(key.startswith(wrapper) for key in state):
            state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return state
