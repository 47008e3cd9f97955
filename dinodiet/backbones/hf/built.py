"""From an architecture, its expected input and a source of weights to a backbone, tried without values first."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.models import PretrainedCfg

from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.backbones.hf.backbone import HFBackbone
from dinodiet.backbones.hf.configuration import Architecture, signature_of
from dinodiet.backbones.hf.facts import Facts
from dinodiet.backbones.hf.processor import Processor
from dinodiet.backbones.hf.pruned import remove, unused_parameters
from dinodiet.backbones.hf.readout import Arguments, Feature, Output, chosen_feature, output_of, run
from dinodiet.backbones.hf.repository import Repository, licence_of
from dinodiet.backbones.hf.weights import from_file, from_scratch
from dinodiet.backbones.meta import on_meta
from dinodiet.backbones.timm import expected_input, input_side
from dinodiet.backbones.weights.files import first_line, weights_path
from dinodiet.backbones.weights.network import refuse_prefix
from dinodiet.errors import UserError
from dinodiet.types import DataSpec, Description


@dataclass(frozen=True)
class Source:
    """Where the weights of a model come from: `hub` is its repository, which is looked for when they are read."""

    weights: str
    prefix: str | None
    name: str
    revision: str | None

    @property
    def label(self) -> str:
        """Return what to call the repository, with its commit where that is known."""
        return self.name if self.revision is None else f"{self.name} at {self.revision}"

    def path(self) -> Path | None:
        """Return the file; None: random weights, or none at all on the meta device."""
        refuse_prefix(self.weights, self.prefix)
        if self.weights == "none" or on_meta():
            return None
        if self.weights != "hub":
            return weights_path(self.weights)
        return Repository(self.name, self.revision).get_weights()

    def licence(self, path: Path | None) -> str | None:
        """Return what the card says, which comes with the weights if these are of the hub; None: it is not told."""
        return None if path is None or self.weights != "hub" else licence_of(Repository(self.name, self.revision))


def built(
    spec: DataSpec,
    facts: Facts,
    source: Source,
    told: Description,
    feature: Feature,
    image_size: int | None,
    drop_path: float,
) -> HFBackbone:
    """Return a backbone; what it is told of itself is in `told`.

    Raises:
        UserError: a feature, size or weights that do not exist or do not fit; see `hf_backbone`.
    """
    chosen, taken = facts.architecture, facts.input
    cfg = _as_timm(chosen, taken)
    side = input_side(spec, image_size, cfg, source.weights)
    probe = chosen.on_meta()
    output = _output(probe, chosen, side, int(cfg.input_size[-1]))
    kind = chosen_feature(feature, chosen.type, output)
    expected = expected_input(spec, cfg, side, _divisor(probe, chosen, output, side), source.weights)
    width = output.pooler if kind in ("pooler", "map") else output.tokens and output.tokens[-1]
    make = partial(HFBackbone, feature=kind, output=output, embed_dim=width or 0, input=expected, flipped=taken.flipped)
    whole = make(probe, description=told)
    unused = [name.removeprefix("model.") for name in unused_parameters(whole, side)]
    path = source.path()
    licence = facts.licence or source.licence(path)
    if path is not None:
        model, words = from_file(chosen, path, source.prefix, unused)
    else:
        model, words = probe if on_meta() else from_scratch(chosen, unused), source.weights
        remove(model, unused)
    set_drop_path(model, drop_path)
    details = {"weights": words, "repository": source.label, "feature": f"{feature} ({kind})"}
    details |= {"without": ", ".join(_tops(unused))} if unused else {}
    signature = f"{signature_of(chosen)} {kind} {side} {taken.flipped}"
    told = replace(told, licence=licence or told.licence, rebuilds=replace(facts, licence=licence).rebuilds)
    return make(model, description=replace(told, signature=signature, details=details))


def _tops(names: list[str]) -> list[str]:
    return list(dict.fromkeys(name.partition(".")[0] for name in names))


def _as_timm(chosen: Architecture, taken: Processor) -> PretrainedCfg:
    """Return the expected input in the form in which timm keeps it."""
    own = getattr(chosen.config, "image_size", None)
    side = taken.side or (own if isinstance(own, int) else (own or [224])[0])
    return PretrainedCfg(
        input_size=(3, side, side),
        mean=taken.mean,
        std=taken.std,
        interpolation=taken.interpolation,
        crop_pct=taken.crop_fraction,
        fixed_input_size=_patch(chosen) > 1,
    )


def _patch(chosen: Architecture) -> int:
    """Return the side of the patches that a model cuts its input into, 1 where it says none."""
    side = getattr(chosen.config, "patch_size", 1)
    return int(side if isinstance(side, int) else (list(side or [1]))[-1])


def _output(probe: Any, chosen: Architecture, side: int, own: int) -> Output:
    """Return what a model on the meta device makes of an image of `side` pixels.

    Raises:
        UserError: it takes none of that size, or no images alone.
    """
    found = _tried(probe, side)
    if not isinstance(found, Exception):
        return output_of(probe, found, side)
    step = max(_patch(chosen), 2)
    sides = sorted({own, *(step * (side // step + more) for more in (-1, 0, 1, 2))} - {side})
    near = [str(other) for other in sides if other > 0 and not isinstance(_tried(probe, other), Exception)]
    if near:
        raise UserError(f"image_size: {side}, which a {chosen.type} does not take; nearest: {', '.join(near)}")
    raise UserError(f"name: a {chosen.type} makes no embedding of images alone ({first_line(found)})") from found


def _tried(probe: Any, side: int) -> Any:
    """Return what a model on the meta device makes of an image, or the error that it raises."""
    with torch.device("meta"), torch.no_grad():
        images = torch.empty(1, 3, side, side)
        try:
            return run(probe, Arguments(probe), images)
        except Exception as error:  # models refuse sizes in ways of their own
            return error


def _divisor(probe: Any, chosen: Architecture, output: Output, side: int) -> int:
    """Return what the sides of crops are multiples of: the patch, or `side` where the model takes no other."""
    patch = _patch(chosen) if output.tokens and math.isqrt(output.tokens[1]) > 1 else 1
    smaller = {max(1, round(side * part / step)) * step for part in (96 / 224, 0.5) for step in (patch, 32)}
    takes = any(not isinstance(_tried(probe, crop), Exception) for crop in sorted(smaller) if crop < side)
    return patch if takes else side
