"""ResNets with the published stem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn

from dinodiet.backbones.to_transformers.conversion import Conversion, Unlike, activation, is_there

if TYPE_CHECKING:
    from dinodiet.backbones.timm_models import Feature

LAYERS = {BasicBlock: ("basic", "conv2"), Bottleneck: ("bottleneck", "conv3")}  # kind, and the last convolution


def convert(model: Any, feature: Feature, side: int) -> Conversion:
    """Return a `ResNet` of timm in transformers; see `conversion.Convert`."""
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    block = stages[0][0]
    if type(block) not in LAYERS or is_there(block.se) or is_there(block.aa):
        raise Unlike("its blocks are not those of ResNet")
    if not isinstance(model.conv1, nn.Conv2d) or not isinstance(model.maxpool, nn.MaxPool2d):
        raise Unlike("its stem is deeper than ResNet's, and transformers has that alone")
    kind, last = LAYERS[type(block)]
    config = {
        **{"model_type": "resnet", "layer_type": kind, "depths": [len(stage) for stage in stages]},
        **{"hidden_sizes": [getattr(stage[0], last).out_channels for stage in stages]},
        **{"embedding_size": model.conv1.out_channels, "hidden_act": activation(model.act1)},
    }
    return Conversion("ResNetModel", config, "pooler")
