"""ResNets that timm lacks, registered with it: the wide ones of SimCLR, ResNet5M, and those for small images.

Importing this module is enough; `timm_backbone` then knows them by the names of the functions below. None of them has
weights on a hub.
"""

from __future__ import annotations

from typing import Any

from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet, downsample_conv
from torch import Tensor, nn

from dinodiet.backbones.architectures.registered import he_normal_, register

_SIMCLR: dict[str, Any] = {
    # Published as TensorFlow checkpoints, for images in [0, 1]: nothing is subtracted.
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
    "notes": ("convert the TensorFlow checkpoint with github.com/tonylins/simclr-converter",),
}
default_cfgs = generate_default_cfgs(
    {"resnet50_simclr": _SIMCLR, "resnet50x2_simclr": _SIMCLR, "resnet50x4_simclr": _SIMCLR, "resnet5m": {}}
)


def _wide_resnet50(width: int, **kwargs: Any) -> nn.Module:
    """Return a ResNet-50 with every layer, the stem's included, `width` times as wide; key names are torchvision's."""
    stem = 64 * width
    channels = (stem, 2 * stem, 4 * stem, 8 * stem)
    block: Any = Bottleneck
    model: Any = ResNet(block, (3, 4, 6, 3), channels=channels, **kwargs)
    if width > 1:  # timm's stem has a fixed width
        model.conv1 = nn.Conv2d(3, stem, 7, stride=2, padding=3, bias=False)
        model.bn1 = nn.BatchNorm2d(stem)
        model.layer1[0] = Bottleneck(stem, stem, downsample=downsample_conv(stem, 4 * stem, kernel_size=1))
        model.init_weights()
    network: nn.Module = model
    return network


class ResNet5M(ResNet):
    """A ResNet of basic blocks in three stages: 3 of width 64, 6 of 128 and 1 of 512, behind the usual stem."""

    def __init__(self, **kwargs: Any) -> None:
        block: Any = BasicBlock
        super().__init__(block, (3, 6, 1), channels=(64, 128, 512), **kwargs)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's map (B, 512, ~h / 16, ~w / 16)."""
        net: Any = self  # timm adds its layers by name
        features: Tensor = net.layer3(net.layer2(net.layer1(net.maxpool(net.act1(net.bn1(net.conv1(x)))))))
        return features


class TinyResNet(ResNet):
    """A ResNet for small images: a stem of one 3 x 3 convolution of stride 1, without pooling (He et al. 2015, 4.2).

    Where the width changes the shortcut is a 1 x 1 convolution, as in larger ResNets. With widths of 16 to 64 that is
    2,752 parameters more than the paper's CIFAR networks have.
    """

    def __init__(self, block: Any, layers: tuple[int, ...], channels: tuple[int, ...], **kwargs: Any) -> None:
        super().__init__(block, layers, channels=channels, **kwargs)
        net: Any = self
        net.conv1 = nn.Conv2d(3, channels[0], 3, padding=1, bias=False)
        net.bn1 = nn.BatchNorm2d(channels[0])
        net.maxpool = nn.Identity()
        if channels[0] != 64:  # timm's first stage expects a stem of this width
            net.layer1[0] = block(channels[0], channels[0])
        he_normal_(self)

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the last stage's map (B, C, h / 8, w / 8); of three stages (B, C, h / 4, w / 4)."""
        net: Any = self
        x = net.act1(net.bn1(net.conv1(x)))
        for number in range(1, 5):
            stage = getattr(net, f"layer{number}", None)
            x = x if stage is None else stage(x)
        return x


_WIDE, _NARROW = (64, 128, 256, 512), (16, 32, 64)
register(__name__, "resnet18_tiny", TinyResNet, block=BasicBlock, layers=(2, 2, 2, 2), channels=_WIDE)
register(__name__, "resnet34_tiny", TinyResNet, block=BasicBlock, layers=(3, 4, 6, 3), channels=_WIDE)
register(__name__, "resnet50_tiny", TinyResNet, block=Bottleneck, layers=(3, 4, 6, 3), channels=_WIDE)
register(__name__, "resnet20_tiny", TinyResNet, block=BasicBlock, layers=(3, 3, 3), channels=_NARROW)
register(__name__, "resnet56_tiny", TinyResNet, block=BasicBlock, layers=(9, 9, 9), channels=_NARROW)


@register_model
def resnet50_simclr(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Return the ResNet-50 of SimCLR (Chen et al. 2020, arXiv:2002.05709)."""
    return build_model_with_cfg(_wide_resnet50, "resnet50_simclr", pretrained, width=1, **kwargs)


@register_model
def resnet50x2_simclr(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Return the ResNet-50 of SimCLR, twice as wide."""
    return build_model_with_cfg(_wide_resnet50, "resnet50x2_simclr", pretrained, width=2, **kwargs)


@register_model
def resnet50x4_simclr(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Return the ResNet-50 of SimCLR, four times as wide."""
    return build_model_with_cfg(_wide_resnet50, "resnet50x4_simclr", pretrained, width=4, **kwargs)


@register_model
def resnet5m(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Return the ResNet5M of LowDINO."""
    return build_model_with_cfg(ResNet5M, "resnet5m", pretrained, **kwargs)
