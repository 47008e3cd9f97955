"""How networks of this package become models of timm: `timm_backbone` then knows them by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn


def register(
    module: str, name: str, network: Callable[..., nn.Module], *, fixed_size: bool = False, **args: Any
) -> None:
    """Register a network without released weights; timm makes it by `network(**args)`, from the `module` it is in.

    One of `fixed_size` is also told the side of its images, `img_size`.
    """

    def make(pretrained: bool = False, **given: Any) -> nn.Module:
        return build_model_with_cfg(network, name, pretrained, kwargs_filter=("in_chans",), **args, **given)

    make.__name__, make.__qualname__, make.__module__ = name, name, module
    known = sys.modules[module].__dict__.setdefault("default_cfgs", {})  # where timm looks for it
    known.update(generate_default_cfgs({name: {"fixed_input_size": fixed_size}}))
    register_model(make)


def he_normal_(network: nn.Module) -> None:
    """Draw the weights of convolutions as He et al. 2015 (arXiv:1502.01852) for ReLU, by what they pass on."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
