"""One view of each image of a split, as images: the same at every access, so that their embeddings can be kept."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from dinodiet.data.views.views import SingleView
from dinodiet.types import Images


class ViewedImages:
    """View `number` of each of `images`, uint8 (3, size, size); drawn from (seed, number, position) alone."""

    def __init__(self, images: Images, view: SingleView, *, seed: int, number: int) -> None:
        self.images, self.labels, self._view = images, images.labels, view
        self._stream = f"{seed}/{number}"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Tensor:
        """Return the view of one image, uint8 (3, size, size)."""
        generator = torch.Generator().manual_seed(_number(f"{self._stream}/{position}"))
        (view,) = self._view(self.images[position][None], generator)
        return (view[0] * 255).round().to(torch.uint8)

    def fingerprint(self) -> str:
        """Return a hash of the images' fingerprint, the recipe and the draw."""
        text = f"{self.images.fingerprint()} {self._view!r} {self._stream}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _number(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1
