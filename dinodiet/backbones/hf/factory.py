"""Backbones from models of transformers: any by its name or folder, or a family that a YAML file describes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from timm.models import PretrainedCfg

from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.backbones.hf.backbone import HFBackbone
from dinodiet.backbones.hf.configuration import Architecture, architecture, signature_of
from dinodiet.backbones.hf.processor import Processor, processor
from dinodiet.backbones.hf.pruned import remove, unused_parameters
from dinodiet.backbones.hf.readout import Arguments, Feature, Output, chosen_feature, output_of, run
from dinodiet.backbones.hf.repository import CONFIG, PROCESSOR, Repository, assets_of, licence_of, read_json
from dinodiet.backbones.hf.weights import from_file, from_scratch
from dinodiet.backbones.meta import on_meta
from dinodiet.backbones.timm import expected_input, input_side
from dinodiet.backbones.weights.files import first_line, weights_path
from dinodiet.backbones.weights.network import refuse_prefix
from dinodiet.backbones.weights.released import weights_assets
from dinodiet.config.ranges import BelowOne, Side
from dinodiet.config.signature import BySize, Neutral
from dinodiet.errors import NotReleased, UserError
from dinodiet.io.assets import Asset
from dinodiet.io.declare import declares
from dinodiet.types import DataSpec, Description

_FACTS = dict[str, Any]


@dataclass(frozen=True)
class _Source:
    """Where the weights of a model come from: `hub` is its repository."""

    weights: str
    prefix: str | None
    repository: Repository

    def path(self) -> Path | None:
        """Return the file; None: random weights, or none at all on the meta device."""
        refuse_prefix(self.weights, self.prefix)
        if self.weights == "none" or on_meta():
            return None
        return self.repository.get_weights() if self.weights == "hub" else weights_path(self.weights)


def _assets(*, name: str | None, revision: str | None, weights: str) -> list[Asset]:
    repository = Repository(_required(name), revision)
    own = [] if weights in ("hub", "none") else weights_assets(weights, None, repository.name)
    return [*assets_of(repository, weights), *own]


@declares(assets=_assets)
def hf_backbone(
    spec: DataSpec,
    *,
    name: str | None,
    revision: str | None = None,
    feature: Feature = "auto",
    weights: str = "hub",
    weights_prefix: str | None = None,
    image_size: Side[int | None] = None,
    drop_path: BelowOne[float] = 0.0,
    family: Neutral[str | None] = None,
    published: Neutral[dict[str, dict[str, float]] | None] = None,
) -> HFBackbone:
    """Build a vision encoder of transformers for a dataset; no code of its repository is run.

    Args:
        spec: the dataset; its `image_size`, where set, is the side of the input.
        name: `USER/MODEL` on the hub, or a folder of `save_pretrained` with config.json and preprocessor_config.json.
        revision: a branch, tag or commit of the hub; null: the main branch.
        feature: see `HFBackbone`; `auto` is what the publishers of its family evaluate.
        weights: `hub` are its own, `none` random ones, or a run, or a file in a layout of transformers.
        weights_prefix: under which a file keeps the network; null: it is found.
        image_size: side where the dataset sets none; null: what its image processor says.
        drop_path: rate of stochastic depth in the last block while training, of models that have it.
        family: what to call it in tables; null: the last part of the name.
        published: frozen scores to check an installation against, by dataset and metric.

    Raises:
        NotOnDisk: without the network, where its configuration is not on this machine.
        UserError: no such model, one that takes no images or needs code of its own, or a setting that does not fit.
    """
    repository = Repository(_required(name), revision)
    config = repository.require(CONFIG) if on_meta() else repository.get(CONFIG)
    repository = repository.at_commit(config)
    chosen = architecture(read_json(config), repository.name)
    asked = repository.require(PROCESSOR) if on_meta() else repository.get(PROCESSOR)
    taken = processor(read_json(asked), repository.name)
    source = _Source(weights, weights_prefix, repository)
    told = Description(family=family, licence=licence_of(repository), published=published or {})
    return _built(spec, chosen, taken, source, told, feature, image_size, drop_path)


def _required(name: str | None) -> str:
    if name is None:
        raise UserError("name: null; give USER/MODEL of the hub, or a folder of save_pretrained")
    return name


def _family_assets(*, size: str | int, names: dict[str, str | None], weights: str) -> list[Asset]:
    repository = Repository(_released(size, names))
    return assets_of(repository, weights) if weights == "hub" else weights_assets(weights, None, repository.name)


@declares(assets=_family_assets, sizes=lambda *, names: list(names))
def hf_family(
    spec: DataSpec,
    *,
    size: str | int,
    names: BySize[dict[str, str | None]],
    configs: BySize[dict[str, dict[str, Any]]],
    processor_config: dict[str, Any],
    licence: Neutral[str | None] = None,
    feature: Feature = "auto",
    weights: str = "hub",
    weights_prefix: str | None = None,
    image_size: Side[int | None] = None,
    drop_path: BelowOne[float] = 0.0,
    family: Neutral[str | None] = None,
    published: Neutral[dict[str, dict[str, float]] | None] = None,
) -> HFBackbone:
    """Build one size of a family of transformers for a dataset; it is planned without any file.

    Args:
        spec: the dataset; its `image_size`, where set, is the side of the input.
        size: a key of `names`.
        names: repositories of the hub by size; null for a size that was never released.
        configs: config.json by size, which serves where the repository's own is not on this machine: what differs
            from the defaults of its `model_type`.
        processor_config: likewise preprocessor_config.json: size, mean, deviation, interpolation.
        licence: of the released weights.
        feature, weights, weights_prefix, image_size, drop_path, family, published: as in `hf_backbone`.

    Raises:
        UserError: a size, feature, weights or image size that does not exist or does not fit.
    """
    repository = Repository(_released(size, names))
    if str(size) not in configs:
        raise UserError(f"configs: none for size {size}; it has {', '.join(configs)}")
    facts, images, whose = configs[str(size)], processor_config, f"configs.{size}"
    fetched = weights == "hub" and not on_meta()
    if (config := repository.get(CONFIG) if fetched else repository.find(CONFIG)) is not None:
        repository = repository.at_commit(config)
        facts, whose = read_json(config), repository.name
        asked = repository.get(PROCESSOR) if fetched else repository.find(PROCESSOR)
        images = processor_config if asked is None else read_json(asked)
    source = _Source(weights, weights_prefix, repository)
    told = Description(
        family=family, size=str(size), licence=licence_of(repository) or licence, published=published or {}
    )
    chosen, taken = architecture(facts, whose), processor(images, whose)
    return _built(spec, chosen, taken, source, told, feature, image_size, drop_path)


def _released(size: str | int, names: Mapping[str, str | None]) -> str:
    released = ", ".join(key for key, name in names.items() if name is not None)
    if str(size) not in names:
        raise UserError(f"size: {str(size)!r}; choose from: {released}")
    if (name := names[str(size)]) is None:
        raise NotReleased(f"size: {str(size)!r} of this family was never released; choose from: {released}")
    return name


def _built(
    spec: DataSpec,
    chosen: Architecture,
    taken: Processor,
    source: _Source,
    told: Description,
    feature: Feature,
    image_size: int | None,
    drop_path: float,
) -> HFBackbone:
    cfg = _as_timm(chosen, taken)
    side = input_side(spec, image_size, cfg, source.weights)
    probe = chosen.on_meta()
    output = _output(probe, chosen, side, int(cfg.input_size[-1]))
    kind = chosen_feature(feature, chosen.type, output)
    expected = expected_input(spec, cfg, side, _divisor(probe, chosen, output, side), source.weights)
    width = output.pooler if kind in ("pooler", "map") else output.tokens and output.tokens[-1]
    make = partial(
        HFBackbone, feature=kind, prefix=output.prefix, embed_dim=width or 0, input=expected, flipped=taken.flipped
    )
    whole = make(probe, description=told)
    unused = [name.removeprefix("model.") for name in unused_parameters(whole, side)]
    path = source.path()
    if path is not None:
        model, words = from_file(chosen, path, source.prefix, unused)
    else:
        model, words = probe if on_meta() else from_scratch(chosen, unused), source.weights
        remove(model, unused)
    set_drop_path(model, drop_path)
    details = {"weights": words, "repository": source.repository.label, "feature": f"{feature} ({kind})"}
    details |= {"without": ", ".join(_tops(unused))} if unused else {}
    signature = f"{signature_of(chosen)} {kind} {side} {taken.flipped}"
    return make(model, description=_described(told, signature, details))


def _described(told: Description, signature: str, details: Mapping[str, str]) -> Description:
    return Description(signature, told.family, told.size, told.licence, told.published, details)


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
