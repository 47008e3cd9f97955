"""Small convolutional networks of the DINO experiment bed (github.com/safelix/dinopl), registered with timm.

| name | layers, W channels each | parameters, W = 16 and 32 |
|---|---|---|
| `convnet_<W>_1` | convolution, ReLU | 448, 896 |
| `convnet_<W>_1e` | as `_1`, max pool, convolution | 2,768, 10,144 |
| `convnet_<W>_2` | as `_1e`, norm, ReLU | 2,800, 10,208 |
| `convnet_<W>_2e` | as `_2`, convolution | 5,120, 19,456 |
| `convnet_<W>_x<n>` | n times convolution, ReLU, average pool | n = 1 to 5: 448 to 9,728, 896 to 37,888 |

Convolutions are 3 x 3 with biases and keep the size. At the end a map is pooled to 2 x 2, whatever its size, and read
channel by channel: 4 W features. `x<n>` is the later form there, whose last pool is the one to 2 x 2.
"""

from __future__ import annotations

from torch import Tensor, nn

from dinodiet.backbones.architectures.registered import he_normal_, register


class _Pooled(nn.Module):
    """What all have in common for timm: a map (B, W, h, w), and 4 W features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.num_features = self.head_hidden_size = 4 * width
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, 4 W) of images (B, 3, h, w)."""
        features: Tensor = self.pool(self.forward_features(x))
        return features


class ConvNet(_Pooled):
    """One or two convolutions, `e`: and one more that is linear; only a second one is normalised."""

    def __init__(self, width: int, form: str, num_classes: int = 0) -> None:
        super().__init__(width)
        self.conv1 = _convolution(3, width)
        self.act1 = nn.ReLU()
        norm = [nn.BatchNorm2d(width), nn.ReLU()] if form.startswith("2") else []
        last = [_convolution(width, width)] if form == "2e" else []
        deeper = [nn.MaxPool2d(2), _convolution(width, width), *norm, *last]
        self.block = nn.Sequential(*(deeper if form != "1" else []))
        he_normal_(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map (B, W, h, w), of half the side where there is a second convolution."""
        features: Tensor = self.block(self.act1(self.conv1(x)))
        return features


class DeepConvNet(_Pooled):
    """Equal layers in a row: convolution, ReLU, average pool."""

    def __init__(self, width: int, depth: int, num_classes: int = 0) -> None:
        super().__init__(width)
        layers = [nn.Sequential(_convolution(width if number else 3, width), nn.ReLU()) for number in range(depth)]
        for layer in layers[:-1]:
            layer.append(nn.AvgPool2d(2))
        self.sequential = nn.Sequential(*layers)
        he_normal_(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last map (B, W, h / 2^(n - 1), w / 2^(n - 1))."""
        features: Tensor = self.sequential(x)
        return features


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding="same")


for _width in (16, 32):
    for _form in ("1", "1e", "2", "2e"):
        register(__name__, f"convnet_{_width}_{_form}", ConvNet, width=_width, form=_form)
    for _depth in range(1, 6):
        register(__name__, f"convnet_{_width}_x{_depth}", DeepConvNet, width=_width, depth=_depth)
