"""MobileViT, which timm makes of its building blocks (ByobNet) as many other networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from timm.models.byobnet import BottleneckBlock
from timm.models.mobilevit import MobileVitBlock

from dinodiet.backbones.to_transformers.conversion import Conversion, Unlike, activation, epsilon, is_there

if TYPE_CHECKING:
    from dinodiet.backbones.timm_models import Feature

# Of each stage, as the library has them: blocks that are convolutions, and transformer blocks behind.
STAGES = [(1, 0), (3, 0), (1, 2), (1, 4), (1, 3)]


def convert(model: Any, feature: Feature, side: int) -> Conversion:
    """Return a `ByobNet` of timm in transformers; see `conversion.Convert`."""
    if [_shape(stage) for stage in model.stages] != STAGES or not is_there(model.final_conv):
        raise Unlike("its stages are not MobileViT's, the one network of these blocks that is converted")
    mixers = [stage[1] for stage in model.stages[2:]]
    first, transformer = model.stages[0][0], mixers[0].transformer[0]
    sizes = [model.stem.conv.out_channels, *(_width(stage) for stage in model.stages)]
    config = {
        **{"model_type": "mobilevit", "image_size": side, "patch_size": mixers[0].patch_size[0]},
        **{"hidden_sizes": [mixer.conv_1x1.out_channels for mixer in mixers]},
        **{"neck_hidden_sizes": [*sizes, model.final_conv.conv.out_channels]},
        **{"num_attention_heads": transformer.attn.num_heads, "layer_norm_eps": epsilon(model)},
        **{"mlp_ratio": transformer.mlp.fc1.out_features / transformer.mlp.fc1.in_features},
        **{"expand_ratio": first.conv1_1x1.conv.out_channels / sizes[0], "hidden_act": activation(transformer.mlp.act)},
        **{"conv_kernel_size": mixers[0].conv_kxk.conv.kernel_size[0]},
    }
    return Conversion("MobileViTModel", config, "pooler")


def _shape(stage: Any) -> tuple[int, int]:
    """Return how many convolutions a stage has, and transformer blocks behind them; (0, 0): it is no such stage."""
    mixers = [block for block in stage if type(block) is MobileVitBlock]
    known = len(mixers) < 2 and all(type(block) is BottleneckBlock for block in list(stage)[: len(stage) - len(mixers)])
    return (len(stage) - len(mixers), sum(len(mixer.transformer) for mixer in mixers)) if known else (0, 0)


def _width(stage: Any) -> int:
    return int(stage[0].conv3_1x1.conv.out_channels)
