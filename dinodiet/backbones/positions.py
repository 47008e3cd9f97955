"""Learned position embeddings for grids of another size: as the publisher of the weights resizes them.

All do it bicubically. DINO and DINOv2 do not antialias, and scale by (size + 0.1) / side instead of size / side, which
shifts the grid a little. DINOv2 with registers and timm antialias, and scale exactly. MAE and I-JEPA do neither.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from dinodiet.errors import UserError


@dataclass(frozen=True)
class Resizing:
    """How to resize; `offset` is added to the new size where the scale is computed, and needs `antialias` off."""

    antialias: bool = True
    offset: float = 0.0

    def __str__(self) -> str:
        """Return it in words."""
        offset = f", offset {self.offset:g}" if self.offset else ""
        return f"resized bicubically, {'antialiased' if self.antialias else 'not antialiased'}{offset}"


TIMMS = Resizing()
# By timm's names. What is not here is resized as timm does it.
_PUBLISHED = {
    r"patch\d+_dinov2\b": Resizing(antialias=False, offset=0.1),
    r"\.dino$": Resizing(antialias=False, offset=0.1),
    r"\.mae$": Resizing(antialias=False),
    r"ijepa$": Resizing(antialias=False),
}


def published(name: str) -> Resizing:
    """Return what the publisher of a model of timm does."""
    return next((found for pattern, found in _PUBLISHED.items() if re.search(pattern, name)), TIMMS)


def set_resizing(model: Any, name: str, antialias: bool | None, offset: float | None) -> Resizing | None:
    """Let a model resize its position embeddings for inputs of other sizes; null is the publisher's choice.

    Returns:
        How; None: it has none that are resized here.

    Raises:
        UserError: something is chosen for such a model.
    """
    known = isinstance(model, VisionTransformer) and type(model)._pos_embed is VisionTransformer._pos_embed
    if not known or model.pos_embed is None:
        _refuse(name, antialias, offset)
        return None
    how = _chosen(published(name), antialias, offset)
    if how != TIMMS:
        model.resizing = how
        model._pos_embed = MethodType(_add_positions, model)
    return how


def _chosen(default: Resizing, antialias: bool | None, offset: float | None) -> Resizing:
    if default.antialias if antialias is None else antialias:
        return TIMMS  # an offset that a whole family states is for those of its sizes that are not antialiased
    return Resizing(antialias=False, offset=default.offset if offset is None else offset)


def _refuse(name: str, antialias: bool | None, offset: float | None) -> None:
    for key, value in (("pos_embed_antialias", antialias), ("pos_embed_offset", offset)):
        if value is not None:
            raise UserError(f"{key}: {value}, but {name} has no position embeddings to resize; leave it null")


def resized(grid: Tensor, size: tuple[int, int], how: Resizing) -> Tensor:
    """Return embeddings (1, rows, columns, D) for another number of rows and columns."""
    old = (grid.shape[1], grid.shape[2])
    if old == size:
        return grid
    maps = grid.permute(0, 3, 1, 2).float()
    if how.offset:
        scale = [(new + how.offset) / side for new, side in zip(size, old, strict=True)]
        maps = F.interpolate(maps, scale_factor=scale, mode="bicubic", antialias=how.antialias)
        assert maps.shape[2:] == size
    else:
        maps = F.interpolate(maps, size=size, mode="bicubic", antialias=how.antialias)
    return maps.permute(0, 2, 3, 1).to(grid.dtype)


def fit_positions(state: Mapping[str, Any], model: Any, how: Resizing) -> dict[str, Any]:
    """Return a state dict whose `pos_embed`, of a square grid after any class token, has the grid of the model."""
    embeddings, grid = state.get("pos_embed"), tuple(model.patch_embed.grid_size)
    if not isinstance(embeddings, Tensor) or embeddings.ndim != 3:
        return dict(state)
    own = 0 if model.no_embed_class else model.num_prefix_tokens
    for prefix in (own, 1, 0):  # of what has registers, the publishers store the class token's with the patches'
        side = math.isqrt(max(embeddings.shape[1] - prefix, 0))
        if side and side**2 + prefix == embeddings.shape[1]:
            patches = embeddings[:, prefix:].unflatten(1, (side, side))
            fitted = torch.cat([embeddings[:, :prefix], resized(patches, grid, how).flatten(1, 2)], dim=1)
            return {**state, "pos_embed": fitted}
    return dict(state)


def signature(how: Resizing | None) -> list[list[float]]:
    """Return what tells forward passes apart; nothing where timm's own code resizes."""
    return [] if how is None or how == TIMMS else [[float(how.antialias), how.offset]]


def _add_positions(self: Any, patches: Tensor) -> Tensor:
    """Return the tokens (B, prefix + patches, D) of patches (B, rows, columns, D) with their positions."""
    if not self.dynamic_img_size:
        tokens: Tensor = type(self)._pos_embed(self, patches)
        return tokens
    prefix = [token.expand(patches.shape[0], -1, -1) for token in (self.cls_token, self.reg_token) if token is not None]
    stored = 0 if self.no_embed_class else self.num_prefix_tokens
    rows, columns = patches.shape[1:3]
    grid = self.pos_embed[:, stored:].unflatten(1, tuple(self.patch_embed.grid_size))
    positions = resized(grid, (rows, columns), self.resizing).flatten(1, 2)
    tokens = patches.flatten(1, 2) + positions
    if prefix:
        prefix_tokens = torch.cat(prefix, dim=1)
        tokens = torch.cat([prefix_tokens + self.pos_embed[:, :stored] if stored else prefix_tokens, tokens], dim=1)
    dropped: Tensor = self.pos_drop(tokens)
    return dropped
