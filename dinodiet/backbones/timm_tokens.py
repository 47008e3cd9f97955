"""The tokens of timm's transformers. Networks that give maps, as convolutions and Swin do, are refused."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from dinodiet.errors import NotApplicable
from dinodiet.types import TokenLayout, Tokens


def layout(model: Any) -> TokenLayout:
    """Return how the tokens of a model look.

    Raises:
        NotApplicable: it has none.
    """
    if not hasattr(model, "num_prefix_tokens"):
        raise NotApplicable(f"needs the tokens of a transformer; {type(model).__name__} has none")
    return TokenLayout(
        width=int(model.num_features),
        class_token=_has_class_token(model),
        depth=len(getattr(model, "blocks", ())),
        prefix=int(model.num_prefix_tokens),
        patch=_patch_side(model),
        pooled=getattr(model, "attn_pool", None) is not None,
    )


def tokens(model: Any, images: Tensor) -> Tokens:
    """Return the tokens of normalised images after the final norm; `fc_norm` is the one of models that pool before."""
    layout(model)
    return _parted(model, _normalised(model, model.forward_features(images)))


def class_tokens(model: Any, images: Tensor, last: int) -> Tensor:
    """Return the class tokens (B, last * D) of the last blocks, from the earliest on, each after the final norm.

    Raises:
        NotApplicable: there is no class token, or timm does not show those of this model's blocks.
    """
    if not layout(model).class_token:
        raise NotApplicable(f"needs a class token; {type(model).__name__} has none")
    shown = inspect.signature(getattr(model, "forward_intermediates", layout)).parameters
    if "return_prefix_tokens" not in shown:
        raise NotApplicable(f"needs the class tokens of each block, which timm's {type(model).__name__} does not show")
    found = model.forward_intermediates(
        images, indices=last, return_prefix_tokens=True, norm=True, output_fmt="NLC", intermediates_only=True
    )
    return torch.cat([_normalised(model, prefix[:, 0]) for _, prefix in found], dim=1)


def visible_tokens(model: Any, images: Tensor, visible: Tensor) -> Tensor:
    """Return the tokens (B, prefix + V, D) of normalised images of which only the patches `visible` (B, V) were seen.

    timm's own place for dropping patches, in front of the blocks, is used: the model selects rotary positions itself.

    Raises:
        NotApplicable: the model has no such place.
    """
    shape = layout(model)
    if shape.patch == 0:
        raise NotApplicable(f"needs a transformer that can leave patches out; timm's {type(model).__name__} cannot")
    usual = model.patch_drop
    model.patch_drop = _Keep(visible, shape.prefix, told=isinstance(model, Eva))
    try:
        found = _normalised(model, model.forward_features(images))
    finally:
        model.patch_drop = usual
    return found


def covered_states(model: Any, images: Tensor, covered: Tensor | None, token: Tensor | None) -> Tensor:
    """Return what `forward_features` makes (B, T, D) of normalised images, with patches covered by a token.

    `covered` is bool (B, N), row by row; None: no patch is. The token (D,) takes the place of what the patch embedding
    returns, so that positions are added to it (Bao et al. 2021, arXiv:2106.08254, section 2.3).

    Raises:
        NotApplicable: the model has no such patches.
    """
    if layout(model).patch == 0:
        raise NotApplicable(f"needs a transformer whose patches can be covered; timm's {type(model).__name__} has none")
    if covered is None or token is None:
        return model.forward_features(images)  # type: ignore[no-any-return]

    def cover(module: nn.Module, given: Any, made: Tensor) -> Tensor:
        # Rows and columns are two dimensions, or one: that depends on whether the model takes several sizes.
        return torch.where(covered.view(made.shape[:-1])[..., None], token.to(made.dtype), made)

    hook = model.patch_embed.register_forward_hook(cover)
    try:
        return model.forward_features(images)  # type: ignore[no-any-return]
    finally:
        hook.remove()


def patches_of(model: Any, states: Tensor) -> Tensor:
    """Return the patch tokens (B, N, D) after the final norm from what `forward_features` gives."""
    return _parted(model, _normalised(model, states)).patches


class _Keep(nn.Module):
    """Keeps the prefix and these patches; `told`: the model asks for their numbers too."""

    def __init__(self, visible: Tensor, prefix: int, *, told: bool) -> None:
        super().__init__()
        self._visible, self._prefix, self._told = visible, prefix, told

    def forward(self, tokens: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        prefix, patches = tokens[:, : self._prefix], tokens[:, self._prefix :]
        kept = patches.gather(1, self._visible[:, :, None].expand(-1, -1, patches.shape[-1]))
        joined = torch.cat([prefix, kept], dim=1)
        return (joined, self._visible) if self._told else joined


def _patch_side(model: Any) -> int:
    """Return the side of the patches; 0 where they cannot be left out or are not square."""
    if not isinstance(model, VisionTransformer | Eva):
        return 0
    sides = getattr(getattr(model, "patch_embed", None), "patch_size", (0,))
    sides = {sides} if isinstance(sides, int) else set(sides)
    return int(sides.pop()) if len(sides) == 1 else 0


def _has_class_token(model: Any) -> bool:
    return getattr(model, "cls_token", None) is not None


def _normalised(model: Any, states: Tensor) -> Tensor:
    norm = getattr(model, "fc_norm", None)
    normalised: Tensor = states if norm is None else norm(states)
    return normalised


def _parted(model: Any, states: Tensor) -> Tokens:
    """Return tokens (B, T, D) by what they are; the class token is the first."""
    first = int(_has_class_token(model))
    prefix = int(model.num_prefix_tokens)
    return Tokens(states[:, 0] if first else None, states[:, first:prefix], states[:, prefix:])
