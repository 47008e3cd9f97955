"""Backbones on the meta device, without values: what a run would train, without its weights and their memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from dinodiet.config.build import build
from dinodiet.types import Backbone, DataSpec


def planned() -> bool:
    """Return whether models are built on the meta device now: weights are then neither fetched nor read."""
    return bool(torch.get_default_device().type == "meta")


def planned_backbone(node: dict[str, Any], spec: DataSpec) -> Backbone:
    """Return the backbone of a `model` node, without values: no weights are needed, and no memory.

    Its input is that of a run. Only backbones of one's own are asked for without weights, and may then expect another:
    their factories may load what they are told to.

    Raises:
        UserError: it refuses its settings, or weights are asked for that were never released.
    """
    if not str(node["_target_"]).startswith("dinodiet.") and node.get("weights", "none") != "none":
        node = {**node, "weights": "none"}
        spec = replace(spec, native_size=None)  # else it decides the input's side of what has no weights
    with torch.device("meta"):
        backbone: Backbone = build(node, "model")(spec=spec)
    return backbone
