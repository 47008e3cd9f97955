"""Backbones on the meta device, without values: what a run would train, without its weights and their memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from dinodiet.config.build import build, declared
from dinodiet.types import Backbone, DataSpec

# What gives tensors their first values, in torch's layers and in timm's and transformers' own.
_NAMES = ("uniform_", "normal_", "erfinv_", "mul_", "add_", "div_", "clamp_", "fill_", "zero_")
_FILL = {*(getattr(torch.Tensor, name) for name in _NAMES), torch.nn.init.kaiming_uniform_, torch.nn.init.uniform_}


def on_meta() -> bool:
    """Return whether models are built on the meta device now: weights are then neither fetched nor read."""
    return torch.empty(0).is_meta  # get_default_device() does not know of `with torch.device(...)` in torch 2.6


def backbone_on_meta(node: dict[str, Any], spec: DataSpec) -> Backbone:
    """Return the backbone of a `model` node, without values: no weights are needed, and no memory.

    Its input is that of a run. A factory that declares no `assets` may load what it is told to: it is asked for a
    backbone without weights, which may then expect another input.

    Raises:
        NotReleased: weights are asked for that were never released.
        UserError: it refuses its settings, or is no backbone.
    """
    without = without_weights(node)
    if without != node:
        spec = replace(spec, native_size=None)  # else it decides the input's side of what has no weights
    with torch.device("meta"), Unfilled():
        backbone: Backbone = build(without, "model", Backbone)(spec=spec)
    return backbone


def without_weights(node: dict[str, Any]) -> dict[str, Any]:
    """Return a `model` node whose factory loads nothing on the meta device: one without `assets` would."""
    loads = node.get("weights", "none") != "none" and not declared(node, "model", "assets")
    return {**node, "weights": "none"} if loads else node


class Unfilled(TorchFunctionMode):
    """Leaves out what fills tensors of the meta device, which have no values: it takes most of the time of a build.

    On that device torch computes for every call what shape and type would come of it. Where all else that is given are
    numbers, these stay as they are; what is computed with another tensor is checked as ever.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Return the tensor that is to be filled, else what the function returns."""
        kwargs = kwargs or {}
        if func in _FILL:
            filled, *others = [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)]
            if filled.is_meta and not others:
                return filled
        return func(*args, **kwargs)
