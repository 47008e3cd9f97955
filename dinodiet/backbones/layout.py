"""How a backbone's weights lie in memory."""

from __future__ import annotations

import torch
from torch import nn

from dinodiet.types import Backbone


def prefer_channels_last(backbone: Backbone) -> None:
    """Lay convolutional networks out channels-last: faster on CPUs (3-5 x for small ones) and on GPUs alike.

    A transformer's single patch convolution gains nothing and is left alone.
    """
    assert isinstance(backbone, nn.Module)
    if sum(isinstance(part, nn.Conv2d) for part in backbone.modules()) > 2:
        backbone.to(memory_format=torch.channels_last)
