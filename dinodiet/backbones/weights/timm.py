"""Weights for timm's models, from its hub, an installed package or a local file, all or nothing.

A checkpoint in its publisher's layout goes through the filter that timm has for the model's family. Then every tensor
must find its place and every place its tensor; only classifier, projection and decoder heads are left out.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.models import clean_state_dict, load_state_dict
from timm.models._hub import hf_split
from torch import Tensor, nn

from dinodiet.backbones.meta import on_meta
from dinodiet.backbones.weights import packaged
from dinodiet.backbones.weights.files import first_line, network_in, read_file, run_file, whose
from dinodiet.backbones.weights.released import HubFile, Release, UrlFile, no_release, weights_assets
from dinodiet.errors import UserError
from dinodiet.io.assets import Asset, present

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # timm's order of preference
# Where publishers keep the encoder in a training checkpoint. Teachers come first: they are what the papers evaluate.
CONTAINERS = ("target_encoder", "teacher", "state_dict_ema", "model_ema", "state_dict", "model")
# What a feature extractor has no place for: classifiers, self-distillation and projection heads, decoders.
_HEADS = ("head.", "head_dist.", "fc.", "classifier.", "dino_head.", "ibot_head.", "decoder_", "mask_token")


def load_weights(model: nn.Module, weights: str, *, resize_patches: bool = False) -> None:
    """Fill a timm model, built without classifier, from `hub`, `package`, a run or a file; `none` leaves it as it is.

    Of a model on the meta device there is nothing to fill. Position embeddings are resized to the model's grid, patch
    embeddings only with `resize_patches`.

    Raises:
        UserError: the weights cannot be had, or do not fit the model.
    """
    if weights == "none":
        return
    name: str = model.pretrained_cfg["architecture"]  # type: ignore[index, assignment]
    release = timm_release(model.pretrained_cfg) if weights == "hub" else None  # type: ignore[arg-type]
    if on_meta():
        return
    if release is not None:
        source, state = release.name, _from_file(release.get())
    elif weights == "package":
        path = packaged.packaged_file(name)
        source, state = str(path), packaged.to_timm(_from_file(path))
    elif (path_of_run := run_file(weights)) is not None and path_of_run.is_file():
        source, state = f"{path_of_run}{whose(path_of_run)}", read_file(path_of_run)
    else:
        source, state = weights, _from_file(Path(weights).expanduser())
    _load(model, network_in(state) or unwrap(state), f"weights: {source} does not fit {name}", resize_patches)


def _from_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"weights: no file {path.absolute()}; choose from: hub, none, or a file that exists")
    try:
        state: dict[str, Any] = load_state_dict(str(path), weights_only=True)
    except Exception as error:  # a damaged or foreign file fails in torch, zipfile, pickle or safetensors
        raise UserError(f"weights: {path} cannot be read as a checkpoint ({first_line(error)})") from error
    return state


def timm_release(cfg: Mapping[str, Any]) -> Release:
    """Return where the weights of a timm model are published, from its `pretrained_cfg`.

    Raises:
        NotReleased: they are not.
    """
    hub_id, url = str(cfg.get("hf_hub_id") or ""), str(cfg.get("url") or "")
    if hub_id:
        repo, revision = hf_split(hub_id)
        own = cfg.get("hf_hub_filename")
        file, otherwise = (str(own), None) if own else _HUB_FILES
        return HubFile(repo, file, revision=revision, otherwise=otherwise)
    if url:
        return UrlFile(url)
    raise no_release(str(cfg["architecture"]), "".join(f" ({note})" for note in cfg.get("notes") or ()))


def timm_assets(cfg: Mapping[str, Any], weights: str) -> list[Asset]:
    """Return what `load_weights` will need.

    Raises:
        NotReleased: no weights were released.
    """
    name = str(cfg["architecture"])
    if weights == "package":
        path = packaged.packaged_file(name)
        return [Asset(path.name, str(path), partial(present, path), partial(packaged.packaged_file, name))]
    return weights_assets(weights, timm_release(cfg) if weights == "hub" else None, name)


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
