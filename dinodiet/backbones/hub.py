"""Weights for the package's own architectures, from the Hugging Face hub or local files, strictly, once in memory.

A model is built on the meta device and filled shard by shard, tensor by tensor: files are memory-mapped where their
format allows it, and what is mapped becomes the parameter itself. Nothing in a file is ever executed.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE
from safetensors.torch import load_file
from torch import Tensor, nn

from dinodiet.backbones.weights import CONTAINERS, check_connection, first_line, refuse_misfit, unwrap
from dinodiet.errors import UserError

_INDEX = ".index.json"  # Hugging Face's list of the shards that hold a model
_IN_FOLDER = ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin")
_WRAPPERS = ("model.", "backbone.")  # what a module that holds the network calls it, besides those of training code


@dataclass(frozen=True)
class HubFile:
    """A published file: its repository and name on the hub, and the start of its SHA-256, where that is published."""

    repo: str
    file: str
    sha256: str = ""
    revision: str | None = None


def weights_file(weights: str, release: HubFile | None, name: str) -> Path:
    """Return the local path of `weights`: `hub`, a file, an index of shards, or a folder that holds one of these.

    Raises:
        UserError: there is no such file, or no release, or it cannot be fetched.
    """
    if weights == "hub":
        if release is None:
            raise UserError(f"model.weights: hub, but {name} has no released weights; choose from: none, or a file")
        return hub_file(release)
    path = Path(weights).expanduser()
    if path.is_dir():
        path = next((path / file for file in _IN_FOLDER if (path / file).is_file()), path)
    if not path.is_file():
        looked = f" with {' or '.join(_IN_FOLDER)}" if path.is_dir() else ""
        raise UserError(
            f"model.weights: no file {path.absolute()}{looked}; choose from: hub, none, or a file that exists"
        )
    return path


def hub_file(release: HubFile) -> Path:
    """Return the path of a published file in the hub's cache, fetched where it is not there yet.

    Released weights do not change: a cached file is used without asking the hub.

    Raises:
        UserError: it is neither cached nor can it be fetched, or what came is not the published file.
    """
    cached = try_to_load_from_cache(release.repo, release.file, revision=release.revision)
    if isinstance(cached, str):
        return Path(cached)
    try:
        check_connection(ENDPOINT)
        path = Path(hf_hub_download(release.repo, release.file, revision=release.revision))
    except Exception as error:  # offline, blocked, gated or moved: each layer of the client raises types of its own
        raise UserError(
            f"model.weights: hub, but {release.file} of {release.repo} is neither in the cache {HF_HUB_CACHE} (set by "
            f"HF_HOME) nor could it be fetched ({first_line(error)}); a copy of it is used with "
            "model.weights=/path/to/file"
        ) from error
    _check_digest(path, release)
    return path


def _check_digest(path: Path, release: HubFile) -> None:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    if not digest.hexdigest().startswith(release.sha256):
        blob = path.resolve()
        path.unlink()  # else the cache would hand it out next time
        blob.unlink(missing_ok=True)
        raise UserError(
            f"model.weights: {release.file} of {release.repo} has SHA-256 {digest.hexdigest()}, published is "
            f"{release.sha256}...; it was removed from the cache"
        )


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
        state = {rename(key): value for key, value in _without_wrapper(unwrap(_read(shard), containers)).items()}
        state = {key: value for key, value in state.items() if key not in ignored and isinstance(value, Tensor)}
        found |= {key: value.shape for key, value in state.items()}
        fitting = [key for key, value in state.items() if expected.get(key) == value.shape]
        # Popped, so that what is converted and not mapped is freed as it goes.
        model.load_state_dict({key: _cast(state.pop(key), dtype) for key in fitting}, strict=False, assign=True)
    refuse_misfit(expected, found, f"model.weights: {path} does not fit {name}")


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
        raise UserError(f"model.weights: {path} cannot be read as an index of shards ({first_line(error)})") from error
    for name in names:
        if not (path.parent / name).is_file():
            raise UserError(f"model.weights: {path} names {name}, but there is no such file beside it")
        yield path.parent / name


def _read(path: Path) -> dict[str, Tensor]:
    """Return a checkpoint, mapped where its format allows it, on the CPU."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with _training_arguments():
            state: dict[str, Tensor] = torch.load(
                path, map_location="cpu", mmap=zipfile.is_zipfile(path), weights_only=True
            )
    except Exception as error:  # a damaged or foreign file fails in torch, zipfile, pickle or safetensors
        raise UserError(f"model.weights: {path} cannot be read as a checkpoint ({first_line(error)})") from error
    if not isinstance(state, dict):
        raise UserError(f"model.weights: {path} holds a {type(state).__name__}, not a checkpoint")
    return state


def _training_arguments() -> contextlib.AbstractContextManager[Any]:
    """Let training checkpoints bring the parsed arguments that many hold; torch before 2.5 refuses them."""
    allowed: Any = getattr(torch.serialization, "safe_globals", None)
    return contextlib.nullcontext() if allowed is None else allowed([argparse.Namespace])


def _without_wrapper(state: dict[str, Tensor]) -> dict[str, Tensor]:
    for wrapper in _WRAPPERS:
        if state and all(key.startswith(wrapper) for key in state):
            state = {key.removeprefix(wrapper): value for key, value in state.items()}
    return state
