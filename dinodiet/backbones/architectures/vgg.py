"""The convolutions of VGG (Simonyan and Zisserman 2014, arXiv:1409.1556), averaged: 512 features, registered with timm.

Layers and their names are torchvision's. There is no classifier of three layers, which alone would be 120 M parameters,
and the last pool is left out where a map has one pixel: images of 28 pixels can be taken.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from dinodiet.backbones.architectures.registered import he_normal_, register


class VGG(nn.Module):
    """Convolutions by torchvision's list of widths and `M`, max pools; then the mean of each map."""

    def __init__(self, widths: Any, *, norm: bool = False, num_classes: int = 0) -> None:
        super().__init__()
        self.num_features = self.head_hidden_size = next(width for width in reversed(widths) if width != "M")
        self.features = make_layers(widths, batch_norm=norm)
        if widths[-1] == "M":
            self.features[-1] = LastPool(2)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        he_normal_(self)
        for layer in self.features:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map (B, C, h / 32, w / 32)."""
        features: Tensor = self.features(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, C) of images (B, 3, h, w)."""
        features: Tensor = self.pool(self.forward_features(x))
        return features


class LastPool(nn.MaxPool2d):
    """A max pool that leaves a map of one pixel as it is."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the map (B, C, h / 2, w / 2), or the one that was given."""
        return input if min(input.shape[-2:]) < 2 else super().forward(input)


for _depth, _letter in ((11, "A"), (13, "B"), (16, "D"), (19, "E")):
    register(__name__, f"vgg{_depth}_pooled", VGG, widths=cfgs[_letter])
    register(__name__, f"vgg{_depth}_bn_pooled", VGG, widths=cfgs[_letter], norm=True)
