"""A small encoder that shows its tokens: the 2 x 2 squares of an image, as they are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.data.images import TensorImages
from dinodiet.types import Data, DataSpec, TokenLayout, Tokens
from tests.backbones.toy import Toy

SIDE, WIDTH = 8, 12


class Squares(Toy):
    """Images (B, 3, 8, 8) -> the mean of 16 tokens of 12 numbers; the class token is that mean, times a weight."""

    def __init__(self, *, class_token: bool = True, scale: float = 1.0) -> None:
        super().__init__(WIDTH, SIDE)
        self.register_buffer("scale", torch.tensor(scale))
        self.class_token, self.seen = class_token, 0

    def forward(self, images: Tensor) -> Tensor:
        return self._squares(images).mean(dim=1)

    def _squares(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        assert not self.training
        return F.unfold(images, 2, stride=2).transpose(1, 2) * self.get_buffer("scale")

    def token_layout(self) -> TokenLayout:
        return TokenLayout(WIDTH, self.class_token, depth=2)

    def tokens(self, images: Tensor) -> Tokens:
        patches = self._squares(images)
        return Tokens(100 + patches.mean(dim=1) if self.class_token else None, patches[:, :0], patches)

    def class_tokens(self, images: Tensor, last: int) -> Tensor:
        mean = self._squares(images).mean(dim=1)
        return torch.cat([mean * (1 + number) for number in range(2 - last, 2)], dim=1)


def images(count: int, seed: int, *, multilabel: bool = False) -> TensorImages:
    """Gray noise; one square is red, and whether it is bright in green tells the class."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    pixels[:, 0] = 0
    labels = torch.arange(count) % 2
    place = torch.randint(0, SIDE // 2, (count, 2), generator=generator) * 2
    for row, (top, left) in enumerate(place.tolist()):
        pixels[row, 0, top : top + 2, left : left + 2] = 255
        pixels[row, 1, top : top + 2, left : left + 2] = 255 * labels[row].to(torch.uint8)
    return TensorImages(pixels, torch.stack([labels, 1 - labels], dim=1) if multilabel else labels)


def data(*, multilabel: bool = False, train: int = 160) -> Data:
    """Return data whose classes a mean over the tokens hides."""
    splits = [images(count, seed, multilabel=multilabel) for seed, count in enumerate((train, 60, 60))]
    spec = DataSpec("squares", train, 2, multilabel=multilabel)
    return Data(spec, splits[0], splits[0], splits[1], splits[2])
