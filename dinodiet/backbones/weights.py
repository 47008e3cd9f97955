"""Weights for timm's models, from its hub, an installed package or a local file, all or nothing.

A checkpoint in its publisher's layout goes through the filter that timm has for the model's family. Then every tensor
must find its place and every place its tensor; only classifier, projection and decoder heads are left out.
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.constants import ENDPOINT, HF_HUB_CACHE, HF_HUB_OFFLINE
from timm.models import clean_state_dict, load_state_dict, load_state_dict_from_hf
from torch import Tensor, nn

from dinodiet.backbones import packaged
from dinodiet.errors import UserError

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # timm's order of preference
# Where publishers keep the encoder in a training checkpoint. Teachers come first: they are what the papers evaluate.
CONTAINERS = ("target_encoder", "teacher", "state_dict_ema", "model_ema", "state_dict", "model")
# What a feature extractor has no place for: classifiers, self-distillation and projection heads, decoders.
_HEADS = ("head.", "head_dist.", "fc.", "classifier.", "dino_head.", "ibot_head.", "decoder_", "mask_token")


def load_weights(model: nn.Module, weights: str, *, resize_patches: bool = False) -> None:
    """Fill a timm model, built without classifier, from `hub`, `package` or a file; `none` leaves it as it is.

    Position embeddings are resized to the model's grid, patch embeddings only with `resize_patches`.

    Raises:
        UserError: the weights cannot be had, or do not fit the model.
    """
    if weights == "none":
        return
    name: str = model.pretrained_cfg["architecture"]  # type: ignore[index, assignment]
    if weights == "hub":
        source, state = _from_hub(model)
    elif weights == "package":
        path = packaged.packaged_file(name)
        source, state = str(path), packaged.to_timm(_from_file(path))
    else:
        source, state = weights, _from_file(Path(weights).expanduser())
    _load(model, unwrap(state), f"model.weights: {source} does not fit {name}", resize_patches)


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"model.weights: no file {path.absolute()}; choose from: hub, none, or a file that exists")
    try:
        state: dict[str, Any] = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged or foreign file fails in torch, zipfile, pickle or safetensors
        raise UserError(f"model.weights: {path} cannot be read as a checkpoint ({first_line(error)})") from error
    return state


def _from_hub(model: nn.Module) -> tuple[str, dict[str, Any]]:
    cfg: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    hub_id, url = str(cfg.get("hf_hub_id") or ""), str(cfg.get("url") or "")
    if not (hub_id or url):
        how = "".join(f" ({note})" for note in cfg.get("notes") or ())
        raise UserError(
            f"model.weights: hub, but {cfg['architecture']} has no released weights; choose from: none, or a file{how}"
        )
    # Released weights do not change: a cached file is used without asking the hub.
    files = [cfg["hf_hub_filename"]] if cfg.get("hf_hub_filename") else list(_HUB_FILES)
    for file in files if hub_id else ():
        if isinstance(cached := try_to_load_from_cache(hub_id, file), str):
            return hub_id, _from_file(Path(cached))
    try:
        if not hub_id:
            return url, torch.hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
        check_connection(ENDPOINT)
        return hub_id, load_state_dict_from_hf(hub_id, filename=files[-1], weights_only=True)
    except Exception as error:  # offline, blocked, gated or moved: each layer of the client raises types of its own
        cache = f"{HF_HUB_CACHE} (set by HF_HOME)" if hub_id else f"{torch.hub.get_dir()} (set by TORCH_HOME)"
        raise UserError(
            f"model.weights: hub, but {hub_id or url} is neither in the cache {cache} nor could it be fetched "
            f"({first_line(error)}); a copy of it is used with model.weights=/path/to/file"
        ) from error


def check_connection(url: str) -> None:
    """Fail at once where there is no network, which the hub's client finds out after a minute of retries."""
    if HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    parts = urlsplit(url)
    if parts.hostname is not None and not getproxies():  # a proxy may reach what this machine cannot
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname, port), timeout=10).close()


def first_line(error: Exception) -> str:
    """Return an error's type and the first line of its text."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def unwrap(state: Mapping[str, Any], containers: Sequence[str] = CONTAINERS) -> dict[str, Any]:
    """Return the encoder's state dict from a training checkpoint, without the prefixes of wrappers.

    It lies under the first of `containers` that is there, or is the checkpoint itself.
    """
    while nested := [key for key in containers if isinstance(state.get(key), Mapping)]:
        state = state[nested[0]]
    return {key.removeprefix("backbone."): value for key, value in clean_state_dict(dict(state)).items()}


def _load(model: nn.Module, state: dict[str, Any], problem: str, resize_patches: bool) -> None:
    own = model.state_dict()
    _check_patches(own, state, problem, resize_patches)
    try:
        state = _filter(model, state)
    except Exception as error:  # a filter stumbles over a foreign layout in ways of its own
        raise UserError(f"{problem}: not a layout that timm knows for it ({first_line(error)})") from error
    state = {key: value for key, value in state.items() if key in own or not key.startswith(_HEADS)}
    refuse_misfit(
        {key: value.shape for key, value in own.items()}, {key: value.shape for key, value in state.items()}, problem
    )
    model.load_state_dict(state, strict=True)


def refuse_misfit(expected: Mapping[str, torch.Size], found: Mapping[str, torch.Size], problem: str) -> None:
    """Refuse a state dict whose keys and shapes are not exactly the expected ones.

    Raises:
        UserError: `problem`, and the first keys that are missing, unexpected or of another shape.
    """
    faults = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {tuple(shape)} instead of {tuple(expected[key])}"
            for key, shape in found.items()
            if key in expected and expected[key] != shape
        ],
    }
    if any(faults.values()):
        raise UserError(f"{problem}: " + "; ".join(_summary(kind, keys) for kind, keys in faults.items() if keys))


def _summary(kind: str, keys: list[str], shown: int = 3) -> str:
    return f"{len(keys)} {kind} ({', '.join(keys[:shown])}{', ...' if len(keys) > shown else ''})"


def _filter(model: nn.Module, state: dict[str, Any]) -> dict[str, Tensor]:
    """Put the state dict through the converter that timm keeps beside the model's class, where it has one."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    with contextlib.redirect_stdout(io.StringIO()):  # timm's DINOv3 filter prints
        converted: dict[str, Tensor] = convert(state, model)
    return converted


def _check_patches(own: dict[str, Tensor], state: dict[str, Any], problem: str, resize_patches: bool) -> None:
    """Refuse patch embeddings of another patch size, which timm's filters would resize without a word."""
    key = "patch_embed.proj.weight"
    if resize_patches or key not in own or not isinstance(state.get(key), Tensor) or state[key].ndim != 4:
        return
    found, expected = state[key].shape[-1], own[key].shape[-1]
    if found != expected:
        raise UserError(f"{problem}: its patch size is {found}, the model's {expected}; choose the size that has it")
