"""timm's models as backbones: one module that gives one embedding an image and knows what input it expects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, Literal

from timm.models import PretrainedCfg
from torch import Tensor, nn

from dinodiet.backbones import positions, timm_tokens
from dinodiet.backbones.architectures import convnets, flat, resnets, vgg  # noqa: F401 - add to the models of timm
from dinodiet.backbones.blocks import find_blocks
from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.backbones.normalize import Normalize
from dinodiet.backbones.norms import Norm, exchange_norms, norm_of
from dinodiet.backbones.timm_export import timm_targets
from dinodiet.backbones.timm_models import (
    Feature,
    check_takes,
    choose,
    create,
    divisor_of_crops,
    embed,
    embed_dim,
    find_model,
    read_out,
    takes_any_size,
)
from dinodiet.backbones.to_transformers import transformers_target
from dinodiet.backbones.weights.classifier import classifier_of
from dinodiet.backbones.weights.normalised import normalised_by
from dinodiet.backbones.weights.timm import load_weights, timm_assets
from dinodiet.backbones.without_values import calls_on_meta
from dinodiet.config.ranges import BelowOne, Side
from dinodiet.config.signature import BySize, Neutral
from dinodiet.errors import UserError
from dinodiet.io.assets import Asset
from dinodiet.io.declare import declares
from dinodiet.types import DataSpec, Description, ExportTarget, InputSpec, TokenLayout, Tokens, Unexportable


class TimmBackbone(nn.Module):
    """A timm model without classifier: images (B, 3, s, s) in 0..1 -> embeddings (B, embed_dim).

    `feature` is `cls` or `mean_patch` of a transformer's output tokens after the final norm, prefix tokens (class and
    registers) excluded from the mean; `map` is attention pooling, by models that have learned it; `pooled` is what timm
    feeds the model's classifier, one of these or the mean of a map. `made` is the name and the arguments by
    which timm makes the model; `classifier` returns that of its weights, from the backbone.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        feature: Feature,
        input: InputSpec,
        description: Description,
        made: tuple[str, Mapping[str, Any]] | None = None,
        classifier: Callable[[Any], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.made, self._classifier = made, classifier
        self.normalize = Normalize(input)
        self.model: Any = model
        self.feature = feature
        self.input = input
        self.description = description
        self.embed_dim = embed_dim(model, feature)
        self._parts = find_blocks(model, lambda: calls_on_meta(self, input.size, below="model"))

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (B, embed_dim) of images (B, 3, s, s) in 0..1."""
        return embed(self.model, self.feature, self.normalize(images))

    def token_layout(self) -> TokenLayout:
        """Return how its tokens look: see `dinodiet.backbones.timm_tokens`."""
        return timm_tokens.layout(self.model)

    def tokens(self, images: Tensor) -> Tokens:
        """Return the tokens of images (B, 3, s, s) in 0..1."""
        return timm_tokens.tokens(self.model, self.normalize(images))

    def class_tokens(self, images: Tensor, last: int) -> Tensor:
        """Return the class tokens (B, last * D) of the last blocks."""
        return timm_tokens.class_tokens(self.model, self.normalize(images), last)

    def visible_tokens(self, images: Tensor, visible: Tensor) -> Tensor:
        """Return the tokens (B, prefix + V, D) of images of which only the patches `visible` (B, V) are seen."""
        return timm_tokens.visible_tokens(self.model, self.normalize(images), visible)

    def embedding_and_patches(
        self, images: Tensor, covered: Tensor | None = None, token: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the embeddings (B, embed_dim) and patch tokens (B, N, D), with the `covered` patches by a token."""
        states = timm_tokens.covered_states(self.model, self.normalize(images), covered, token)
        return read_out(self.model, self.feature, states), timm_tokens.patches_of(self.model, states)

    def freezable_blocks(self) -> list[list[nn.Module]]:
        """Return the transformer blocks or convolution stages from input to output: see `dinodiet.backbones.blocks`."""
        return [[self.model.get_submodule(name) for name in block] for block in self._parts.blocks]

    def tail(self) -> list[nn.Module]:
        """Return the modules after the last block: final norm, last convolution."""
        return [self.model.get_submodule(name) for name in self._parts.tail]

    def classifier(self) -> nn.Module:
        """Return the classifier that its weights were trained with: embeddings -> logits.

        Raises:
            UserError: they came without one, or it takes another feature.
        """
        if self._classifier is None:
            raise UserError("weights: nothing says where they are from, so that their classifier is not known")
        return self._classifier(self)

    def export_targets(self) -> Mapping[str, ExportTarget | Unexportable]:
        """Return how timm itself loads it, and transformers where it has the same network."""
        if self.made is None:
            return {}
        return {**timm_targets(self, *self.made), "transformers": transformers_target(self)}


def _assets(*, size: str | int, names: dict[str, str | None], weights: str) -> list[Asset]:
    return timm_assets(asdict(find_model(str(size), names)[1]), weights)


def _sizes(*, names: dict[str, str | None]) -> list[str]:
    return list(names)


@declares(assets=_assets, sizes=_sizes)
def timm_backbone(
    spec: DataSpec,
    *,
    size: str | int,
    names: BySize[dict[str, str | None]],
    feature: Feature,
    weights: str = "hub",
    weights_prefix: str | None = None,
    image_size: Side[int | None] = None,
    patch_size: Side[int | Literal["auto"] | None] = None,
    pos_embed_antialias: bool | None = None,
    pos_embed_offset: BelowOne[float | None] = None,
    drop_path: BelowOne[float] = 0.0,
    norm: Norm | None = None,
    model_args: dict[str, Any] | None = None,
    family: Neutral[str | None] = None,
    trains_class_token: Neutral[bool] = False,
    published: Neutral[dict[str, dict[str, float]] | None] = None,
) -> TimmBackbone:
    """Build one size of a family of timm's models for a dataset.

    Args:
        spec: the dataset; its `image_size`, where set, is the side of the input.
        size, names: timm's model names by size, with the tag of the weights; null for a size that was never released.
        feature: see `TimmBackbone`.
        weights: `hub`, `none`, `package`, a run, or a file or folder of the publisher, timm or Hugging Face.
        weights_prefix: under which a file keeps the network, such as `teacher.backbone`; null: it is found.
        image_size: side where the dataset sets none; null: the weights' own, or the stored one between 32 and 224.
        patch_size: null is the model's own; `auto` is 4 below 64 pixels, 8 below 128, else 16.
        pos_embed_antialias, pos_embed_offset: see `positions.Resizing`; null: as the publisher of the weights does.
        drop_path: rate of stochastic depth in the last block while training.
        norm: takes the place of every BatchNorm of a convolutional network; null: its own. See `norms`.
        model_args: more arguments of timm's model.
        family, trains_class_token: see `Description`.
        published: frozen scores to check an installation against, by dataset and metric.

    Raises:
        UserError: a size, feature, weights or image size that does not exist (`NotReleased`) or does not fit.
    """
    name, cfg = find_model(str(size), names)
    side = input_side(spec, image_size, cfg, weights)
    args = _transformer_args(name, cfg, side, patch_size) | (model_args or {})
    model = _without_weights(name, args, feature, drop_path, norm_of(norm, weights))
    divisor = _patch_side(model) if cfg.fixed_input_size else 1
    expected = _with_crops(expected_input(spec, cfg, side, divisor, weights), spec, (name, args, feature), cfg)
    resizing = positions.set_resizing(model, name, pos_embed_antialias, pos_embed_offset)
    told = load_weights(model, weights, resize_patches=patch_size is not None, resizing=resizing, prefix=weights_prefix)
    known = [name, feature, side, args, *positions.signature(resizing), *filter(None, [norm])]
    description = Description(
        signature=json.dumps(known, sort_keys=True),
        family=family,
        size=str(size),
        licence=cfg.license,
        published=published or {},
        details={"weights": told, "positions": str(resizing or "")},
        trains_class_token=trains_class_token,
    )
    made = None if norm else (name, args)  # timm makes none with an exchanged norm
    own = partial(classifier_of, weights, name=name, args=args)
    return TimmBackbone(model, feature=feature, input=expected, description=description, made=made, classifier=own)


def _with_crops(
    expected: InputSpec, spec: DataSpec, model: tuple[str, Mapping[str, Any], Feature], cfg: PretrainedCfg
) -> InputSpec:
    """Return the input of a model, which is seen to take it, with what the sides of crops are multiples of."""
    if takes_any_size(model[0]):
        return expected
    check_takes(*model, expected.size, int(cfg.input_size[-1]), _whose(spec))
    return replace(expected, divisor=divisor_of_crops(*model, expected.size, expected.divisor))


def input_side(spec: DataSpec, image_size: int | None, cfg: PretrainedCfg, weights: str) -> int:
    """Return the side of the input: the dataset's, the model file's, or what the weights were trained with."""
    side = image_size if spec.image_size is None else spec.image_size
    if side is not None:
        return side
    if weights != "none":
        return int(cfg.input_size[-1])
    # From scratch: the stored size, not below what a network that shrinks its input 32-fold can use.
    native = min(max(spec.native_size or 224, 32), 224)
    return native - native % -16 if cfg.fixed_input_size else native  # rounded up to whole patches


def _transformer_args(
    name: str, cfg: PretrainedCfg, side: int, patch_size: int | Literal["auto"] | None
) -> dict[str, Any]:
    """Return the arguments that timm's models with position embeddings for one input size need for another."""
    if not cfg.fixed_input_size:
        if patch_size is not None:
            raise UserError(f"patch_size: {patch_size}, but {name} has no patches; leave it null")
        return {}
    if patch_size == "auto":
        patch_size = 4 if side < 64 else 8 if side < 128 else 16
    args: dict[str, Any] = {"img_size": side} | ({"patch_size": patch_size} if patch_size is not None else {})
    if takes_any_size(name):
        args["dynamic_img_size"] = True  # multi-crop training mixes sizes
    return args


def _without_weights(name: str, args: dict[str, Any], feature: Feature, drop_path: float, norm: Norm | None) -> Any:
    model = create(name, args)
    if norm is not None:
        exchange_norms(model, norm, name)
    set_drop_path(model, drop_path)
    choose(feature, model, name)
    return model


def _patch_side(model: Any) -> int:
    """Return the side of the patches that a model cuts its input into, 1 where it says none."""
    stem = getattr(model, "patch_embed", None) or getattr(model, "stem", None)
    side = getattr(stem, "patch_size", 1)
    return int(side[0] if isinstance(side, tuple) else side)


def _whose(spec: DataSpec) -> str:
    return "" if spec.image_size is None else f" (image_size of the dataset {spec.name})"


def expected_input(spec: DataSpec, cfg: PretrainedCfg, side: int, divisor: int, weights: str) -> InputSpec:
    """Return what the weights were trained to see, for another size.

    Images of a dataset that stores them all at one size are framed already: no centre crop on top of that.

    Raises:
        UserError: the side is not a multiple of `divisor`, the patch size.
    """
    if side % divisor:
        below = max(side // divisor, 1) * divisor
        raise UserError(
            f"image_size: {side}{_whose(spec)} is not a multiple of the patch size {divisor}; "
            f"nearest: {below}, {below + divisor}"
        )
    framed = weights == "none" or spec.native_size is not None
    own = (cfg.mean[0], cfg.mean[1], cfg.mean[2]), (cfg.std[0], cfg.std[1], cfg.std[2])
    mean, std = spec.normalization(*normalised_by(weights, *own))
    return InputSpec(
        size=side,
        mean=mean,
        std=std,
        interpolation="bilinear" if cfg.interpolation == "bilinear" else "bicubic",
        crop_fraction=1.0 if framed else cfg.crop_pct,
        divisor=divisor,
    )
