"""Weights for timm's models, from its hub, an installed package or a local file, all or nothing.

A checkpoint in its publisher's layout goes through the filter that timm has for the model's family. Then every tensor
must find its place and every place its tensor; only classifier, projection and decoder heads are left out.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from timm.models._hub import hf_split
from torch import Tensor, nn

from dinodiet.backbones.meta import on_meta
from dinodiet.backbones.positions import TIMMS, Resizing, fit_positions
from dinodiet.backbones.weights import packaged
from dinodiet.backbones.weights.colours import red_first
from dinodiet.backbones.weights.files import first_line, network_in, read_all, weights_path, whose
from dinodiet.backbones.weights.filled import filled, spread
from dinodiet.backbones.weights.layouts import to_known
from dinodiet.backbones.weights.misfit import refuse_broken, refuse_misfit, refuse_nothing, unlike
from dinodiet.backbones.weights.network import Found, State, find, refuse_prefix, tensors_in
from dinodiet.backbones.weights.released import HubFile, Release, UrlFile, no_release, weights_assets
from dinodiet.errors import UserError
from dinodiet.io.assets import Asset, present

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # timm's order of preference
# What a feature extractor has no place for: classifiers, self-distillation and projection heads, decoders.
HEADS: tuple[str, ...] = (
    "head.",
    "head_dist.",
    "fc.",
    "classifier.",
    "dino_head.",
    "ibot_head.",
    "decoder",
    "mask_token",
    "pooler.",
)
HEADS += ("projector.", "projection_head.", "predictor.", "prediction_head.", "prototypes.", "cls_classifier.")
HEADS += ("distillation_classifier.", "pre_logits.", "lm_head.", "attn_pool.")


def load_weights(
    model: nn.Module,
    weights: str,
    *,
    resize_patches: bool = False,
    resizing: Resizing | None = None,
    prefix: str | None = None,
) -> str:
    """Fill a timm model, built without classifier, from `hub`, `package`, a run or a file; `none` leaves it as it is.

    Of a model on the meta device there is nothing to fill. Position embeddings are resized to the model's grid, patch
    embeddings only with `resize_patches`.

    Args:
        model: what is filled, all or nothing.
        weights: where from.
        resize_patches: whether patch embeddings may have another size.
        resizing: how position embeddings are resized; None: as timm does it.
        prefix: under which the file keeps the network; None: it is found.

    Returns:
        What was read, in words.

    Raises:
        UserError: the weights cannot be had, or do not fit the model.
    """
    refuse_prefix(weights, prefix)
    if weights == "none":
        return weights
    name: str = model.pretrained_cfg["architecture"]  # type: ignore[index, assignment]
    if weights == "hub":
        timm_release(model.pretrained_cfg)  # type: ignore[arg-type]
    if on_meta():
        return weights
    source, state, path = _read(weights, model.pretrained_cfg)  # type: ignore[arg-type]
    if prefix is None and (own := network_in(state)) is not None:
        found = Found(tensors_in(own), "")
    else:
        found = find(tensors_in(state), partial(_fit, model), len(model.state_dict()), prefix, source)
    found = replace(found, state=red_first(found.state, path))
    _load(model, found, source, name, resize_patches, resizing)
    return f"{source}{found}"


def whole_state(model: nn.Module, weights: str, cfg: Mapping[str, Any]) -> State:
    """Return the tensors of `weights` under the names of timm's `model`, with those of its classifier.

    Raises:
        UserError: they cannot be had, or are in no layout of this model.
    """
    source, state, _ = _read(weights, cfg)
    try:
        return _filter(model, to_known(tensors_in(state)))
    except Exception as error:  # a filter stumbles over a foreign layout in ways of its own
        raise UserError(f"weights: {source} has no layout that timm knows ({first_line(error)})") from error


def _read(weights: str, cfg: Mapping[str, Any]) -> tuple[str, dict[str, Any], Path | None]:
    """Return what is read in words, its tensors, and its file where it is none of a hub."""
    name = str(cfg["architecture"])
    if weights == "hub":
        release = timm_release(cfg)
        return release.name, _from_file(release.get()), None
    if weights == "package":
        path = packaged.packaged_file(name)
        return str(path), packaged.to_timm(_from_file(path)), path
    path = weights_path(weights)
    return f"{path}{whose(path)}", _from_file(path), path


def _from_file(path: Path) -> dict[str, Any]:
    return read_all(path)


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


def _fit(model: nn.Module, state: State) -> tuple[int, ...] | None:
    """Return how many places of the model a state dict fills, and minus the number of tensors without a place.

    A place counts once for its name and once for its shape: networks of two sizes may have the same names.
    """
    own = model.state_dict()
    try:
        found = _converted(model, state)
    except Exception:  # a filter stumbles over a foreign layout in ways of its own
        return None
    places = [key for key in found if key in own]
    shapes = sum(found[key].shape == own[key].shape for key in places)
    return len(places) + shapes, len(places) - len(found)


def _converted(model: nn.Module, state: State) -> State:
    """Return a state dict under timm's names, without what the model has no place for."""
    own = model.state_dict()
    found = filled(_filter(model, spread(to_known(state), own)), model)
    return {
        key: _as_convolution(value, own.get(key))
        for key, value in found.items()
        if key in own or not key.startswith(HEADS)
    }


def _as_convolution(value: Tensor, place: Tensor | None) -> Tensor:
    """Return the weights of a linear layer as those of a convolution of one pixel, where the model has that."""
    fits = place is not None and place.ndim == 4 and value.ndim == 2 and place.shape == (*value.shape, 1, 1)
    return value[:, :, None, None] if fits else value


def _load(
    model: nn.Module, found: Found, source: str, name: str, resize_patches: bool, resizing: Resizing | None
) -> None:
    own = model.state_dict()
    problem = f"weights: {source} does not fit {name}{found}"
    refuse_nothing(found, source)
    known = to_known(found.state)
    _check_patches(own, known, problem, resize_patches)
    if resizing is not None and resizing != TIMMS:
        known = fit_positions(known, model, resizing)
    try:
        state = _converted(model, known)
    except Exception as error:  # as above
        raise UserError(
            f"{problem}: not a layout that timm knows for it ({first_line(error)}){unlike(found.state, own)}"
        ) from error
    refuse_misfit(own, state, problem, found.state)
    refuse_broken(own, state, f"weights: {source}{found}")
    model.load_state_dict(state, strict=True)


def _filter(model: nn.Module, state: State) -> State:
    """Put the state dict through the converter that timm keeps beside the model's class, where it has one."""
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    with contextlib.redirect_stdout(io.StringIO()):  # timm's DINOv3 filter prints
        converted: State = convert(dict(state), model)
    return converted


def _check_patches(own: State, state: State, problem: str, resize_patches: bool) -> None:
    """Refuse patch embeddings of another patch size, which timm's filters would resize without a word."""
    key = "patch_embed.proj.weight"
    if resize_patches or key not in own or key not in state or state[key].ndim != 4:
        return
    found, expected = state[key].shape[-1], own[key].shape[-1]
    if found != expected:
        raise UserError(f"{problem}: its patch size is {found}, the model's {expected}; choose the size that has it")
