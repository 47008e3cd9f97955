"""timm's models as backbones: one module that gives one embedding an image and knows what input it expects."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any, Literal

import timm
from timm.models import PretrainedCfg, get_pretrained_cfg, is_model, model_entrypoint
from torch import Tensor, nn

from dinodiet.backbones.architectures import resnets  # noqa: F401 - adds to the models of timm
from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.backbones.normalize import Normalize
from dinodiet.backbones.weights.timm import load_weights, timm_assets
from dinodiet.config.ranges import BelowOne, Side
from dinodiet.config.signature import BySize, Neutral
from dinodiet.errors import NotReleased, UserError
from dinodiet.io.assets import Asset
from dinodiet.io.declare import declares
from dinodiet.types import DataSpec, Description, InputSpec

Feature = Literal["cls", "mean_patch", "pooled"]

_BLOCKS = re.compile(r"blocks|stages|layers|(layer\d+|s\d+)")  # timm's names: containers of blocks, or single stages
_ANY_SIZE = ("timm.models.vision_transformer", "timm.models.eva")  # their transformers can take several input sizes


class TimmBackbone(nn.Module):
    """A timm model without classifier: images (B, 3, s, s) in 0..1 -> embeddings (B, embed_dim).

    `feature` is `cls` or `mean_patch` of a transformer's output tokens after the final norm, prefix tokens (class and
    registers) excluded from the mean, or `pooled`: what timm feeds the model's classifier.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        feature: Feature,
        input: InputSpec,
        description: Description,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(input)
        self.model: Any = model
        self.feature = feature
        self.input = input
        self.description = description
        self.embed_dim: int = getattr(model, "head_hidden_size" if feature == "pooled" else "num_features")
        self._num_prefix_tokens = getattr(model, "num_prefix_tokens", 0)

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (B, embed_dim) of images (B, 3, s, s) in 0..1."""
        embeddings: Tensor
        images = self.normalize(images)
        if self.feature == "pooled":
            embeddings = self.model(images)
            return embeddings
        tokens = self.model.forward_features(images)
        chosen = tokens[:, 0] if self.feature == "cls" else tokens[:, self._num_prefix_tokens :].mean(dim=1)
        embeddings = self.model.fc_norm(chosen)  # the final norm of models that timm pools before it, else identity
        return embeddings

    def freezable_blocks(self) -> list[list[nn.Module]]:
        """Return the transformer blocks or convolution stages from input to output."""
        blocks: list[list[nn.Module]] = []
        for name, child in self.model.named_children():
            if match := _BLOCKS.fullmatch(name):
                blocks += [[child]] if match[1] else [[block] for block in child]
        return blocks

    def tail(self) -> list[nn.Module]:
        """Return the modules after the last block: final norm, last convolution."""
        children = list(self.model.named_children())  # timm registers them in the order of the forward pass
        last = max((i for i, (name, _) in enumerate(children) if _BLOCKS.fullmatch(name)), default=-1)
        return [child for _, child in children[last + 1 :]]


def _assets(*, size: str | int, names: dict[str, str | None], weights: str) -> list[Asset]:
    return timm_assets(asdict(_resolve(str(size), names)[1]), weights)


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
    image_size: Side[int | None] = None,
    patch_size: Side[int | Literal["auto"] | None] = None,
    drop_path: BelowOne[float] = 0.0,
    model_args: dict[str, Any] | None = None,
    family: Neutral[str | None] = None,
    published: Neutral[dict[str, dict[str, float]] | None] = None,
) -> TimmBackbone:
    """Build one size of a family of timm's models for a dataset.

    Args:
        spec: the dataset; its `image_size`, where set, decides the side of the input.
        size: a key of `names`.
        names: timm's model names by size, with the tag of the weights; null for a size that was never released.
        feature: see `TimmBackbone`.
        weights: `hub`, `none`, a run, a local file in the publisher's or timm's layout, or `package`
            (EfficientNet-Lite0).
        image_size: side of the input where the dataset sets none; null is the weights' own, or without weights the
            dataset's stored size between 32 and 224.
        patch_size: null is the model's own; `auto` is 4 below 64 pixels, 8 below 128, else 16.
        drop_path: rate of stochastic depth in the last block while training.
        model_args: more arguments of timm's model, such as `{depth: 6}`.
        family: what its sizes are called together.
        published: frozen scores to check an installation against, by dataset and metric.

    Raises:
        NotReleased: there are no weights of this size.
        UserError: a size, feature, weights or image size that does not exist or does not fit.
    """
    name, cfg = _resolve(str(size), names)
    side = input_side(spec, image_size, cfg, weights)
    args = _transformer_args(name, cfg, side, patch_size) | (model_args or {})
    model = _create(name, args)
    set_drop_path(model, drop_path)
    _check_feature(model, name, feature)
    divisor = int(model.patch_embed.patch_size[0]) if cfg.fixed_input_size else 1
    input_spec = expected_input(spec, cfg, side, divisor, weights)
    load_weights(model, weights, resize_patches=patch_size is not None)
    description = Description(
        signature=json.dumps([name, feature, side, args], sort_keys=True),
        family=family,
        size=str(size),
        licence=cfg.license,
        published=published or {},
    )
    return TimmBackbone(model, feature=feature, input=input_spec, description=description)


def _resolve(size: str, names: dict[str, str | None]) -> tuple[str, PretrainedCfg]:
    """Return timm's name of a size and the configuration of its weights."""
    released = ", ".join(key for key, name in names.items() if name is not None)
    if size not in names:
        raise UserError(f"size: {size!r}; choose from: {released}")
    name = names[size]
    if name is None:
        raise NotReleased(f"size: {size!r} of this family was never released; choose from: {released}")
    try:
        cfg = get_pretrained_cfg(name) if is_model(name) else None
    except RuntimeError:  # the model exists, but not with this tag of weights
        cfg = None
    if cfg is None:
        raise UserError(f"names.{size}: timm {timm.__version__} has no {name!r}; see timm.list_pretrained()")
    return name, cfg


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
    if model_entrypoint(name).__module__ in _ANY_SIZE:
        args["dynamic_img_size"] = True  # multi-crop training mixes sizes
    return args


def _create(name: str, args: dict[str, Any]) -> Any:
    try:
        return timm.create_model(name, num_classes=0, **args)
    except TypeError as error:
        raise UserError(f"model_args: {name} refuses {', '.join(args)}: {error}") from error


def _check_feature(model: Any, name: str, feature: str) -> None:
    choices = ["pooled"]
    if hasattr(model, "num_prefix_tokens"):
        choices = (["cls"] if getattr(model, "cls_token", None) is not None else []) + ["mean_patch", "pooled"]
    if feature not in choices:
        raise UserError(f"feature: {feature!r} does not exist for {name}; choose from: {', '.join(choices)}")


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
    return InputSpec(
        size=side,
        mean=(cfg.mean[0], cfg.mean[1], cfg.mean[2]),
        std=(cfg.std[0], cfg.std[1], cfg.std[2]),
        interpolation="bilinear" if cfg.interpolation == "bilinear" else "bicubic",
        crop_fraction=1.0 if framed else cfg.crop_pct,
        divisor=divisor,
    )
