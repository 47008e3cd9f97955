"""The tokens of timm's transformers. Networks that give maps, as convolutions and Swin do, are refused."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from dinodiet.errors import NotApplicable
from dinodiet.types import TokenLayout, Tokens


def layout(model: Any) -> TokenLayout:
    """Return how the tokens of a model look.

    Raises:
        NotApplicable: it has none.
    """
    if not hasattr(model, "num_prefix_tokens"):
        raise NotApplicable(f"needs the tokens of a transformer; {type(model).__name__} has none")
    return TokenLayout(int(model.num_features), _has_class_token(model), len(getattr(model, "blocks", ())))


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
