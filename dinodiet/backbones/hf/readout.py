"""From the output of a model of transformers to one embedding an image."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from transformers import pytorch_utils

from dinodiet.errors import UserError

Feature = Literal["auto", "cls", "pooler", "mean_patch", "map"]

# What their publishers evaluate is the class token; the pooler of `vit` was trained with labels, or not at all.
_CLASS_TOKEN = ("vit", "deit", "vit_msn", "vit_mae", "dinov2", "dinov2_with_registers", "dinov3_vit", "data2vec-vision")


@dataclass(frozen=True)
class Output:
    """What a model returns for one image: shapes.

    `tokens`: (1, T, C), or None; `prefix` of the T are no patches; `class_token`: the first is one; `attends`: they
    attend to each other, and are no positions of a convolution's map; `pooler`: its width, None where there is none;
    `attention`: it is attention pooling.
    """

    tokens: tuple[int, ...] | None
    prefix: int
    class_token: bool
    attends: bool
    pooler: int | None
    attention: bool

    def features(self) -> list[str]:
        """Return the features that there are."""
        told = {"cls": self.class_token, "pooler": self.pooler, "mean_patch": self.tokens, "map": self.attention}
        return [name for name, there in told.items() if there]


def output_of(model: Any, found: Any, side: int) -> Output:
    """Return what a model returned for one image of `side` pixels.

    Raises:
        UserError: no tokens, no map and nothing pooled.
    """
    states: Any = getattr(found, "last_hidden_state", None)
    pooled: Any = getattr(found, "pooler_output", None)
    tokens = None if states is None or states.ndim not in (3, 4) else tuple(_tokens(states).shape)
    if tokens is None and pooled is None:
        raise UserError("name: this model returns no last_hidden_state and no pooler_output")
    prefix = 0 if tokens is None or states.ndim == 4 else _prefix(model.config, tokens[1], side)
    return Output(
        tokens=tokens,
        prefix=prefix,
        class_token=prefix > int(getattr(model.config, "num_register_tokens", 0) or 0),
        attends=tokens is not None and states.ndim == 3 and _has(model, "Attention"),
        pooler=None if pooled is None else int(pooled.flatten(1).shape[1]),
        attention=pooled is not None and _has(model, "AttentionPooling"),
    )


def _has(model: Any, word: str) -> bool:
    """Return whether the class of a part is named so."""
    return any(word in type(part).__name__ for part in model.modules())


def chosen_feature(asked: Feature, kind: str, output: Output) -> Feature:
    """Return the feature that is meant; `auto` is what the publishers of a kind of models evaluate.

    Raises:
        UserError: there is none of that name.
    """
    choices = output.features()
    if asked != "auto":
        if asked not in choices:
            raise UserError(f"feature: {asked!r} does not exist for a {kind}; choose from: auto, {', '.join(choices)}")
        return asked
    order: tuple[Feature, ...] = ("cls", "pooler") if kind in _CLASS_TOKEN else ("pooler", "cls")
    return next(name for name in (*order, "mean_patch") if name in choices)


def _prefix(config: Any, count: int, side: int) -> int:
    """Return how many tokens in front are no patches: what the grid of a square image leaves."""
    patch = getattr(config, "patch_size", None)
    patches = [patch, patch] if isinstance(patch, int) else list(patch or ())
    grid = math.prod(side // size for size in patches[-2:]) if len(patches) >= 2 else 0
    # Models that merge patches have fewer: then the grid is the largest square.
    return count - (grid if 0 < grid <= count < 2 * grid + 4 else math.isqrt(count) ** 2)


def _tokens(states: Tensor) -> Tensor:
    """Return tokens (B, T, C), of a map (B, C, H, W) its positions."""
    return states.flatten(2).transpose(1, 2) if states.ndim == 4 else states


def read_out(feature: Feature, prefix: int, found: Any) -> Tensor:
    """Return the embeddings (B, embed_dim) from what a model returned."""
    if feature in ("pooler", "map"):
        embeddings: Tensor = found.pooler_output.flatten(1)
        return embeddings
    tokens = _tokens(found.last_hidden_state)
    return tokens[:, 0] if feature == "cls" else tokens[:, prefix:].mean(dim=1)


def run(model: Any, arguments: Arguments, images: Tensor) -> Any:
    """Return what a model returns for normalised images (B, 3, h, w)."""
    with _nothing_kept() if images.is_meta or isinstance(images, FakeTensor) else contextlib.nullcontext():
        return model(pixel_values=images, **arguments(images))


@contextlib.contextmanager
def _nothing_kept() -> Iterator[None]:
    """Keep the library from keeping tensors without values, which it would use again on images that have some.

    It keeps tables of positions by the size of the image, whatever their device, except while it is compiled.
    """
    said = pytorch_utils.is_torchdynamo_compiling
    pytorch_utils.is_torchdynamo_compiling = lambda: True
    try:
        yield
    finally:
        pytorch_utils.is_torchdynamo_compiling = said


class Arguments:
    """What a model's forward pass is given besides the pixels.

    Position embeddings are interpolated as the model itself does it, for images of another size than its own. Nothing
    is masked and nothing shuffled in a masked autoencoder (He et al. 2021).
    """

    def __init__(self, model: Any) -> None:
        accepted = inspect.signature(model.forward).parameters
        self._interpolates = "interpolate_pos_encoding" in accepted
        self._masks = "noise" in accepted and hasattr(model.config, "mask_ratio")
        size = getattr(model.config, "image_size", None)
        self._own = (size, size) if isinstance(size, int) else tuple(size or ())[-2:]
        self._patch = getattr(model.config, "patch_size", None)
        if self._masks:
            model.config.mask_ratio = 0.0

    def __call__(self, images: Tensor) -> dict[str, Any]:
        """Return the arguments for images (B, 3, h, w)."""
        size = (images.shape[-2], images.shape[-1])
        given: dict[str, Any] = {"interpolate_pos_encoding": True} if self._interpolates and size != self._own else {}
        if self._masks:
            assert isinstance(self._patch, int)
            count = (size[0] // self._patch) * (size[1] // self._patch)
            given["noise"] = torch.arange(count, device=images.device).float().expand(images.shape[0], count)
        return given
