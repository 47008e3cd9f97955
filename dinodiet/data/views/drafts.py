"""Large JPEG files decoded smaller, to train on."""

from __future__ import annotations

from dinodiet.data.images import FileImages, Subset
from dinodiet.errors import UserError
from dinodiet.types import Images


def drafted(images: Images, side: int) -> Images:
    """Return the same image files, for training: decoded smaller where that is enough, which changes their pixels.

    A JPEG file is decoded at the smallest of 1/8, 1/4 and 1/2 of its size (by the library that decodes it, in a
    fraction of the time) at which its shorter side keeps `side` pixels; other files are decoded whole.

    Raises:
        UserError: these are not image files.
    """
    if isinstance(images, Subset):
        return Subset(drafted(images.images, side), images.positions, images.held_out)
    if not isinstance(images, FileImages):
        raise UserError("draft: true, but this dataset has no image files on disk; choose false")
    smaller = FileImages(images.paths, images.labels, side, images.frames)
    smaller.bits = images.bits
    return smaller
