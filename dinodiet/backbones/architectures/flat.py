"""Pixels as features, and multi-layer perceptrons on them, registered with timm; images have one size."""

from __future__ import annotations

from torch import Tensor, nn

from dinodiet.backbones.architectures.registered import register


class Pixels(nn.Module):
    """The pixels of an image themselves, channel by channel: 3 s^2 features of images (B, 3, s, s), no parameters."""

    def __init__(self, img_size: int, num_classes: int = 0) -> None:
        super().__init__()
        self.num_features = self.head_hidden_size = 3 * img_size**2

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the images."""
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return the pixels (B, 3 s^2)."""
        return x.flatten(1)


class MLP(nn.Module):
    """Linear layers of one width on the pixels of images (B, 3, s, s), each with a GELU."""

    def __init__(self, img_size: int, width: int, depth: int, num_classes: int = 0) -> None:
        super().__init__()
        self.num_features = self.head_hidden_size = width
        inputs = [3 * img_size**2, *[width] * (depth - 1)]
        self.layers = nn.Sequential(*(nn.Sequential(nn.Linear(count, width), nn.GELU()) for count in inputs))

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the features (B, width)."""
        features: Tensor = self.layers(x.flatten(1))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, width)."""
        return self.forward_features(x)


register(__name__, "pixels", Pixels, fixed_size=True)
for _width in (512, 1024):
    for _depth in range(1, 6):
        register(__name__, f"mlp_{_width}_{_depth}", MLP, fixed_size=True, width=_width, depth=_depth)
