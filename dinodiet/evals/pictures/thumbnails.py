"""Many images as one file of small tiles, which a page shows one by one: row by row, as the rows of a table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import IO

from PIL import Image
from torch import Tensor

from dinodiet.data.images import fetch
from dinodiet.evals.pictures.sheet import squared, stored
from dinodiet.io.files import write_atomically
from dinodiet.types import Images

THUMBNAILS = "thumbnails.jpg"
TILE, COLUMNS = 40, 50  # pixels of a tile's side, tiles of a row
QUALITIES, MOST = (85, 70, 50, 30), 1500  # of JPEG, and bytes of a tile
TOGETHER = 256  # images in memory at once


def write_thumbnails(path: Path, images: Images, places: Tensor) -> None:
    """Write the images at places as tiles of 40 x 40 pixels, 50 in a row, into one JPEG file.

    Tile i is in column i % 50 and row i // 50, both from 0 at the top left; its pixels begin at 40 times each. An image
    is whole within its tile, in its own proportions, on grey; tiles behind the last image are white. The file has at
    most 1,500 bytes a tile, 3 MB of 2,000: where images are noise its quality is lower.
    """
    rows = max(1, -(-len(places) // COLUMNS))
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * TILE), "white")
    number = 0
    for some in places.split(TOGETHER):
        for image in fetch(images, some):
            row, column = divmod(number, COLUMNS)
            sheet.paste(squared(stored(image), TILE), (column * TILE, row * TILE))
            number += 1
    packed = _packed(sheet, MOST * max(len(places), COLUMNS))

    def write(out: IO[bytes]) -> None:
        out.write(packed)

    write_atomically(path, write)


def _packed(sheet: Image.Image, most: int) -> bytes:
    """Return a picture as JPEG, of the best of a few qualities that takes at most so many bytes, or of the last one."""
    packed = b""
    for quality in QUALITIES:
        file = io.BytesIO()
        # With colours at full size a block of 8 x 8 pixels is within one tile: none shines into the next.
        sheet.save(file, "JPEG", quality=quality, subsampling=0)
        packed = file.getvalue()
        if len(packed) <= most:
            break
    return packed
