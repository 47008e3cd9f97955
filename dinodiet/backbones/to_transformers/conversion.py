"""A network of timm in transformers' words, what makes it out of one, and why there may be none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import nn

from dinodiet.backbones.weights.layouts import Rules

if TYPE_CHECKING:
    from dinodiet.backbones.hf.readout import Feature
    from dinodiet.backbones.timm_models import Feature as TimmFeature

OfTokens = Literal["cls", "mean_patch", "map"]
ACTIVATIONS = ("gelu", "gelu_pytorch_tanh", "quick_gelu", "silu", "relu")  # by the library's names


class Unlike(Exception):  # noqa: N818 - a statement about the network
    """The library has no such network; the message says why, as a clause."""


@dataclass(frozen=True)
class Conversion:
    """The same network in transformers.

    Attributes:
        architecture: the library's class.
        config: its configuration, with the `model_type` by which weights are renamed.
        feature: which output is the embedding.
        prefix: tokens in front of the patches, which their mean leaves out.
        renamed: changes of timm's names before they are turned into the library's.
    """

    architecture: str
    config: Mapping[str, Any]
    feature: Feature
    prefix: int = 0
    renamed: Rules = ()


class Convert(Protocol):
    """What turns networks of one of timm's classes into transformers'."""

    def __call__(self, model: Any, feature: TimmFeature, side: int) -> Conversion:
        """Return the same network, for images of `side` pixels.

        Raises:
            Unlike: there is none.
        """
        ...


def is_there(part: Any) -> bool:
    """Return whether timm has put something in a place of its network."""
    return part is not None and not isinstance(part, nn.Identity)


def activation(module: nn.Module) -> str:
    """Return the library's name of what a module computes number by number.

    Raises:
        Unlike: it has none.
    """
    from transformers.activations import ACT2FN  # noqa: PLC0415 - who exports to it

    numbers = torch.linspace(-4, 4, 65)
    found = module(numbers.clone())
    for name in ACTIVATIONS:
        if torch.allclose(found, ACT2FN[name](numbers.clone()), atol=1e-6):
            return name
    raise Unlike(f"it has the activation {type(module).__name__}, and transformers another")


def epsilon(model: nn.Module) -> float:
    """Return the epsilon of all layer norms.

    Raises:
        Unlike: there are several; most configurations of the library have one.
    """
    found = sorted({part.eps for part in model.modules() if isinstance(part, nn.LayerNorm)})
    if len(found) != 1:
        raise Unlike(f"its layer norms have the epsilons {', '.join(map(str, found))}, and transformers' have one")
    return found[0]


def demand_epsilon(model: nn.Module, wanted: float) -> None:
    """Refuse layer norms with another epsilon than the library's, where its configuration cannot say it.

    Raises:
        Unlike: there are some.
    """
    if (found := epsilon(model)) != wanted:
        raise Unlike(f"its layer norms have the epsilon {found:g}, and transformers' {wanted:g}")


def patch_side(model: Any) -> int:
    """Return the side of the patches.

    Raises:
        Unlike: they are not square.
    """
    height, width = model.patch_embed.patch_size
    if height != width:
        raise Unlike(f"its patches have {height} x {width} pixels, and transformers' are square")
    return int(height)


def pooled_as(model: Any, feature: TimmFeature) -> OfTokens:
    """Return what of its tokens a transformer's embedding is; `pooled` is one of the others.

    Raises:
        Unlike: it pools in another way.
    """
    if feature != "pooled":
        return feature
    known: dict[str, OfTokens] = {"token": "cls", "avg": "mean_patch", "map": "map"}
    if model.global_pool not in known:
        raise Unlike(f"it pools its tokens by {model.global_pool!r}, and transformers cannot")
    return known[model.global_pool]
