"""How weights lie in memory."""

import pytest
import torch

from dinodiet.backbones.layout import prefer_channels_last

from .small import build_small


@pytest.mark.parametrize(("name", "last"), [("resnet18", True), ("vit_tiny", False)])
def test_convolutional_networks_lie_channels_last_and_transformers_as_they_were(name: str, last: bool) -> None:
    backbone = build_small(name).to(memory_format=torch.contiguous_format)
    prefer_channels_last(backbone)
    kernels = [p for p in backbone.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[-1] > 1]
    assert kernels and all(p.is_contiguous(memory_format=torch.channels_last) == last for p in kernels)
