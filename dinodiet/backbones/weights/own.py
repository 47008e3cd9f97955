"""Weights for the package's own architectures, from the Hugging Face hub or local files, strictly, once in memory.

A model is built on the meta device and filled shard by shard, tensor by tensor: files are memory-mapped where their
format allows it, and what is mapped becomes the parameter itself. Nothing in a file is ever executed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dinodiet.backbones.meta import on_meta
from dinodiet.backbones.weights.files import network_in, read_file, shards_of, weights_path, whose
from dinodiet.backbones.weights.misfit import refuse_broken, refuse_misfit, refuse_nothing
from dinodiet.backbones.weights.network import Fit, Found, State, find, refuse_prefix, tensors_in
from dinodiet.backbones.weights.released import HubFile, no_release


def file_to_load(weights: str, release: HubFile | None, name: str, prefix: str | None = None) -> Path | None:
    """Return the file to fill a model from; None: it starts from scratch, or has no values at all (`on_meta`).

    Raises:
        UserError: as `weights_file`, or a `prefix` is given without weights.
    """
    if weights == "hub" and release is None:
        raise no_release(name)
    refuse_prefix(weights, prefix)
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
    return weights_path(weights)


def fill(
    model: nn.Module,
    path: Path,
    *,
    name: str,
    dtype: torch.dtype = torch.float32,
    ignored: Collection[str] = (),
    rename: Callable[[str], str] = str,
    prefix: str | None = None,
    preferred: str | None = None,
) -> str:
    """Give a model, built on the meta device, the tensors of a checkpoint, floating-point ones as `dtype`.

    Args:
        model: every parameter and persistent buffer of it must be in the file, under its own name.
        path: a checkpoint of torch or safetensors, or Hugging Face's index of several.
        name: what to call the model in a message.
        dtype: of the model's parameters; without a conversion they are views of the mapped file.
        ignored: keys of the file that have no place in the model.
        rename: from the file's key names, without the prefixes of wrappers, to the model's.
        prefix: under which the file keeps the network; None: it is found.
        preferred: of several networks that fit, the one below this.

    Returns:
        What was read, in words.

    Raises:
        UserError: the file cannot be read, a key is missing, unexpected or of another shape, or a number is not finite.
    """
    expected, source = model.state_dict(), f"{path}{whose(path)}"
    found: State = {}

    def places(state: State) -> State:
        """Return what has a place in the model, or should have one, under the model's names."""
        return {new: value for key, value in state.items() if (new := rename(key)) not in ignored}

    def fit(state: State) -> tuple[int, ...]:
        """Return how many places it fills, by name and by shape, and minus the number of tensors without a place."""
        names = places(state)
        filled = [key for key in names if key in expected]
        shapes = sum(names[key].shape == expected[key].shape for key in filled)
        return len(filled) + shapes, len(filled) - len(names)

    words = ""
    for shard in shards_of(path):
        network = _network(read_file(shard), fit, prefix, preferred, source)
        refuse_nothing(network, source)
        words, state = str(network), places(network.state)
        found |= {key: value.to("meta") for key, value in state.items()}
        fitting = [key for key, value in state.items() if key in expected and expected[key].shape == value.shape]
        refuse_broken(expected, {key: state[key] for key in fitting}, f"weights: {source}{words}")
        del network
        # Popped, so that what is converted and not mapped is freed as it goes.
        model.load_state_dict({key: _cast(state.pop(key), dtype) for key in fitting}, strict=False, assign=True)
    refuse_misfit(expected, found, f"weights: {source} does not fit {name}{words}")
    return f"{source}{words}"


def _network(checkpoint: dict[str, Any], fit: Fit, prefix: str | None, preferred: str | None, source: str) -> Found:
    """Return the network in a checkpoint: of a run of this package, or of its publisher."""
    if prefix is None and (own := network_in(checkpoint)) is not None:
        return Found(tensors_in(own), "")
    tensors = tensors_in(checkpoint)
    return find(tensors, fit, 0, prefix, source, preferred)


def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
