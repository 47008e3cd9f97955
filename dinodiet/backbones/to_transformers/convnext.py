"""ConvNeXt, ConvNeXt V2, and DINOv3's ConvNeXts, which are the first under other names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from dinodiet.backbones.to_transformers.conversion import (
    Conversion,
    Unlike,
    activation,
    demand_epsilon,
    epsilon,
    is_there,
)

if TYPE_CHECKING:
    from dinodiet.backbones.timm_models import Feature

FIXED = 1e-6  # of all norms of the library's ConvNeXt but the last


def convert(model: Any, feature: Feature, side: int) -> Conversion:
    """Return a `ConvNeXt` of timm in transformers; see `conversion.Convert`."""
    block = model.stages[0].blocks[0]
    _demand_plain(model, block)
    config = {
        **{"depths": [len(stage.blocks) for stage in model.stages]},
        **{"hidden_sizes": [stage.blocks[-1].conv_dw.out_channels for stage in model.stages]},
        **{"image_size": side, "hidden_act": activation(block.mlp.act), "layer_norm_eps": epsilon(model)},
        **({} if block.gamma is None else {"layer_scale_init_value": 1e-6}),
    }
    if "dinov3" in str(model.pretrained_cfg.get("tag")):
        return Conversion("DINOv3ConvNextModel", {"model_type": "dinov3_convnext", **config}, "pooler")
    demand_epsilon(model, FIXED)
    config["patch_size"] = model.stem[0].stride[0]
    if is_there(getattr(block.mlp, "grn", None)):
        return Conversion("ConvNextV2Model", {"model_type": "convnextv2", **config}, "pooler")
    return Conversion("ConvNextModel", {"model_type": "convnext", **config}, "pooler")


def _demand_plain(model: Any, block: Any) -> None:
    """Refuse what no ConvNeXt of the library has.

    Raises:
        Unlike: something is there.
    """
    if len(model.stem) != 2 or is_there(model.norm_pre) or not isinstance(model.head.norm, nn.LayerNorm):
        raise Unlike("its stem or its head is not ConvNeXt's own")
    if (side := block.conv_dw.kernel_size[0]) != 7:
        raise Unlike(f"its convolutions see {side} x {side} pixels, and transformers' 7 x 7")
