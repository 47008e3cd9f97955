"""One image of a user's as evaluation shows it to a backbone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from torch import Tensor

from dinodiet.data.decode import read_image, upright_rgb
from dinodiet.data.preprocess import preprocess
from dinodiet.types import InputSpec


@dataclass(frozen=True)
class Transform:
    """An image -> float32 (3, size, size) in 0..1, decoded, resized and cropped as for the scores of a run.

    `bits` are those that images of more than 8 bits use, as `dataset.source.bits` says it.
    """

    input: InputSpec
    bits: int = 16

    def __call__(self, image: Image.Image | Tensor | str | Path) -> Tensor:
        """Return the pixels of an image of Pillow, of a uint8 tensor (3, H, W), or of a file.

        Of colours of 16 bits Pillow keeps the upper 8: give the file.

        Raises:
            UserError: the file is missing or broken, or its pixels have no 8-bit meaning.
        """
        return preprocess(self._decoded(image)[None], self.input)[0]

    def _decoded(self, image: Image.Image | Tensor | str | Path) -> Tensor:
        if isinstance(image, Tensor):
            return image
        return upright_rgb(image, self.bits) if isinstance(image, Image.Image) else read_image(image, bits=self.bits)
