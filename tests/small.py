"""Small backbones and fixed views for tests of methods and the loop."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dinodiet.types import Batch, DataSpec, Description, InputSpec
from tests.backbones.toy import Toy

SPEC = DataSpec("test", num_images=100, num_labels=2)


class Encoder(Toy):
    """The encoder of the reference training: conv, BatchNorm, GELU, mean over positions, linear."""

    def __init__(self) -> None:
        super().__init__(12, side=16)
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 12)
        self.inputs: list[tuple[int, ...]] = []  # shapes of the forward passes

    def forward(self, images: Tensor) -> Tensor:
        self.inputs.append(tuple(images.shape))
        features: Tensor = self.linear(F.gelu(self.norm(self.conv(images))).mean((2, 3)))
        return features

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[self.conv, self.norm], [self.linear]]


class Pixels(nn.Linear):
    """A linear layer on the pixels of 2 x 2 images."""

    embed_dim = 2

    def __init__(self) -> None:
        super().__init__(12, 2)
        self.input = InputSpec(size=2, mean=(0, 0, 0), std=(1, 1, 1))
        self.description = Description()

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[self]]

    def tail(self) -> list[nn.Module]:
        return []


class Plain:
    """The images themselves as the one view, in 0..1."""

    num_global = 1
    draft_side: int | None = None
    fixed = True

    def __init__(self, input: InputSpec) -> None:
        self.sides = [input.size]

    def __call__(self, images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        assert isinstance(images, Tensor)
        return [images.float() / 255]


class FixedViews:
    """Global and local views, two of each by default, that do not depend on the batch; `crops` may be set."""

    draft_side: int | None = None
    fixed = True

    def __init__(self, input: InputSpec, batch: int = 4, local: int = 2, number: int = 2) -> None:
        generator = torch.Generator().manual_seed(0)
        self.num_global = number
        self.sides = sizes = [input.size] * number + [input.size // 2] * local
        self.crops = [torch.randn(batch, 3, size, size, generator=generator) for size in sizes]

    def __call__(self, images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        return self.crops


class CutViews(FixedViews):
    """The rows of fixed views that belong to the images' first pixel (a row number)."""

    def __call__(self, images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        assert isinstance(images, Tensor)
        return [crop[images[:, 0, 0, 0].long()] for crop in self.crops]


def batch(size: int = 4) -> Batch:
    """Return images that carry their row number in every pixel."""
    rows = torch.arange(size)
    return Batch(rows.to(torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16), None, rows)
