"""Backbones from models of transformers: any by its name or folder, or a family that a YAML file describes."""

from __future__ import annotations

from typing import Any

from dinodiet.backbones.hf.backbone import HFBackbone
from dinodiet.backbones.hf.built import Source, built
from dinodiet.backbones.hf.facts import Facts, facts_in, facts_of_run, family_facts, kept_facts
from dinodiet.backbones.hf.readout import Feature
from dinodiet.backbones.hf.repository import Repository, assets_of
from dinodiet.backbones.meta import on_meta
from dinodiet.backbones.weights.released import released_name, weights_assets
from dinodiet.config.ranges import BelowOne, Side
from dinodiet.config.signature import BySize, Neutral
from dinodiet.errors import UserError
from dinodiet.io.assets import Asset
from dinodiet.io.declare import declares
from dinodiet.types import DataSpec, Description


def _assets(*, name: str | None, revision: str | None, weights: str) -> list[Asset]:
    if facts_of_run(weights, name, revision) is not None:
        return weights_assets(weights, None, "")
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
    kept: dict[str, str] | None = None,
) -> HFBackbone:
    """Build a vision encoder of transformers for a dataset; no code of its repository is run.

    Args:
        spec: the dataset; its `image_size`, where set, is the side of the input.
        name: `USER/MODEL` on the hub, or a folder of `save_pretrained` with config.json and preprocessor_config.json;
            null: that of the run which `weights` names.
        revision: a branch, tag or commit of the hub; null: the main branch.
        feature: see `HFBackbone`; `auto` is what the publishers of its family evaluate.
        weights: `hub` are its own, `none` random ones, or a run, or a file in a layout of transformers.
        weights_prefix: under which a file keeps the network; null: it is found.
        image_size: side where the dataset sets none; null: what its image processor says.
        drop_path: rate of stochastic depth in the last block while training, of models that have it.
        family: what to call it in tables; null: the last part of the name.
        published: frozen scores to check an installation against, by dataset and metric.
        kept: what a run has kept of the repository, which is then not asked, see `Facts`; null: it is, unless `weights`
            is a finished run of the same model, which has kept it.

    Raises:
        NotOnDisk: without the network, where its configuration is not on this machine.
        UserError: no such model, one that takes no images or needs code of its own, or a setting that does not fit.
    """
    facts = _facts(name, revision, weights) if kept is None else kept_facts(kept, name or "the run's model")
    source = Source(weights, weights_prefix, name or facts.whose, facts.revision)
    told = Description(family=family, published=published or {})
    return built(spec, facts, source, told, feature, image_size, drop_path)


def _facts(name: str | None, revision: str | None, weights: str) -> Facts:
    """Return what is known of a model: of the run with its weights, else of its repository."""
    return facts_of_run(weights, name, revision) or facts_in(Repository(_required(name), revision))


def _required(name: str | None) -> str:
    if name is None:
        raise UserError("name: null; give USER/MODEL of the hub, or a folder of save_pretrained")
    return name


def _family_assets(*, size: str | int, names: dict[str, str | None], weights: str) -> list[Asset]:
    repository = Repository(released_name(size, names))
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
    trains_class_token: Neutral[bool] = False,
    published: Neutral[dict[str, dict[str, float]] | None] = None,
    kept: dict[str, str] | None = None,
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
        trains_class_token: whether the loss of the pretraining reads the class token.
        feature, weights, weights_prefix, image_size, drop_path, family, published, kept: as in `hf_backbone`.

    Raises:
        UserError: a size, feature, weights or image size that does not exist or does not fit.
    """
    name = released_name(size, names)
    if str(size) not in configs:
        raise UserError(f"configs: none for size {size}; it has {', '.join(configs)}")
    if kept is None:
        fetch = weights == "hub" and not on_meta()
        where = f"configs.{size}"
        facts = family_facts(Repository(name), configs[str(size)], processor_config, where, fetch=fetch)
    else:
        facts = kept_facts(kept, name)
    source = Source(weights, weights_prefix, name, facts.revision)
    told = Description(
        family=family,
        size=str(size),
        licence=licence,
        published=published or {},
        trains_class_token=trains_class_token,
    )
    return built(spec, facts, source, told, feature, image_size, drop_path)
