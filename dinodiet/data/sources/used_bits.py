"""How many of their 16 bits images use: cameras and scanners of 10, 12 or 14 bits write files of 16, near black."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dinodiet.data.images import BROKEN, FileImages, Subset
from dinodiet.types import Images

SAMPLE = 64  # files that are looked at, evenly over the set
SUFFIXES = (".png", ".tif", ".tiff")  # of formats that hold 16 bits

log = logging.getLogger(__name__)


def scale_to_used_bits(splits: Iterable[Images | None], bits: int | None, place: Path) -> None:
    """Have all images of a set scaled from the same number of bits; None: from what a sample of them uses.

    That is less than 16 where the largest value of the sample is a power of two minus one: 4095 means 12 bits.
    """
    files = [images for images in map(_files, splits) if images is not None]
    chosen = bits or _used_bits(sorted({path for images in files for path in images.paths}), place)
    for images in files:
        images.bits = chosen


def _files(images: Images | None) -> FileImages | None:
    parent = images.images if isinstance(images, Subset) else images
    return parent if isinstance(parent, FileImages) else None


def _used_bits(paths: Sequence[str], place: Path) -> int:
    found = [path for path in paths if path.lower().endswith(SUFFIXES)]
    largest = max(map(_largest, found[:: -(-len(found) // SAMPLE) or 1]), default=0)
    bits = int(largest).bit_length()
    if not 8 < bits < 16:
        return 16
    if largest != 2**bits - 1:
        log.warning("%s: 16-bit images whose values end at %d; bits=%d scales them to that", place, largest, bits)
        return 16
    log.warning("%s: 16-bit images that use %d bits are scaled to that; bits=16 leaves them as they are", place, bits)
    return bits


def _largest(path: str) -> int:
    """Return the largest value in an image of 16 bits; 0 for any other, and for what cannot be read."""
    try:
        with Image.open(path) as image:
            return int(np.asarray(image).max()) if image.mode.startswith("I") else 0
    except BROKEN:
        return 0
