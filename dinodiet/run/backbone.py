"""The backbone of a run: with the weights that it begins with, or for those that it left."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch

from dinodiet.backbones.layout import prefer_channels_last
from dinodiet.backbones.meta import backbone_on_meta
from dinodiet.config.build import build
from dinodiet.config.settings import Settings
from dinodiet.config.signature import Node
from dinodiet.errors import UserError
from dinodiet.io.files import is_number
from dinodiet.run.finished import run_dir_of
from dinodiet.run.weights import Stored
from dinodiet.types import Backbone, DataSpec, InputSpec, Statistics


def build_backbone(settings: Settings, spec: DataSpec, stored: Stored | None = None) -> Backbone:
    """Build the backbone for a dataset, or for the `stored` weights of a run, without those that it began with.

    What starts from scratch follows the run's seed.

    Raises:
        UserError: it refuses its settings, or weights are missing or do not fit.
    """
    torch.manual_seed(settings.seed)  # of a backbone that starts from scratch, and of the heads that follow
    if stored is not None:
        place = run_dir_of(settings).path
        return rebuilt(settings.model, input_of(stored, place), spec, place)
    backbone: Backbone = build(settings.model, "model", Backbone)(spec=spec)
    prefer_channels_last(backbone)
    return backbone


def rebuilding(settings: Settings, stored: Stored) -> Settings:
    """Return settings whose model is built of what a run kept; what they say themselves stays."""
    return replace(settings, model={**stored.rebuilds, **settings.model})


def rebuilt(node: Node, input: InputSpec, spec: DataSpec, place: Path) -> Backbone:
    """Return the backbone of a `model` node for the weights in `place`: random ones, and the input that they expect.

    No random state is changed.

    Raises:
        UserError: a part of it is refused, or it would see its images in another way.
    """
    spec = replace(spec, image_size=input.size, statistics=Statistics(input.mean, input.std, "the run's"))
    without = {name: value for name, value in (("weights", "none"), ("weights_prefix", None)) if name in node}
    with torch.random.fork_rng(devices=[]):  # its first values are overwritten
        backbone: Backbone = build({**node, **without}, "model", Backbone)(spec=spec)
    made = backbone.input
    if (made.size, *made.mean, *made.std) != (input.size, *input.mean, *input.std):
        raise UserError(f"checkpoint: {place} was trained for {input}; its model now expects {made}")
    backbone.input = input  # of the weights that the run began with: its crop too
    prefer_channels_last(backbone)
    told = backbone.description
    backbone.description = replace(told, details={**told.details, "weights": f"of {place}"})
    return backbone


def rebuilt_for(node: Node, spec: DataSpec, place: Path) -> Backbone:
    """Return what `rebuilt` does, expecting what the weights that the node names would of a dataset's images.

    Raises:
        UserError: as `rebuilt`.
    """
    return rebuilt(node, backbone_on_meta(node, spec).input, spec, place)


def input_of(stored: Stored, place: Path) -> InputSpec:
    """Return the input specification that a run kept, of which a file from elsewhere may say anything.

    Raises:
        UserError: it is none.
    """
    spec: Mapping[str, Any] = stored.input
    known = {field.name: spec[field.name] for field in fields(InputSpec) if field.name in spec}
    triples: list[Any] = [known.get(name) for name in ("mean", "std")]
    whole = all(isinstance(triple, (list, tuple)) and len(triple) == 3 for triple in triples)
    numbers = [known.get("size"), known.get("crop_fraction", 1.0), *itertools.chain(*(triples if whole else []))]
    words = known.get("interpolation", "bicubic") in ("bilinear", "bicubic")
    if not (whole and words and all(map(is_number, numbers)) and min(numbers[:2]) > 0):
        raise UserError(f"checkpoint: {place} does not say what input its model expects: {spec}")
    return InputSpec(**{**known, "mean": tuple(known["mean"]), "std": tuple(known["std"])})
