"""One image file as people see it: opened, decoded, upright, in RGB of 8 bits; what is broken, and what is no file."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dinodiet.data.samples import Samples, TooBright, content, deep_samples, to_8_bits
from dinodiet.errors import MachineLimit, UserError, one_line
from dinodiet.io.limits import raise_limit
from dinodiet.io.mistaken import NO_FILE, is_no_file, other_format, page_or_pointer, why_no_image

# What Pillow's decoders raise.
BROKEN = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: str | Path, draft_side: int | None = None, frame: int = 0, bits: int = 16) -> Tensor:
    """Return the image in a file as people see it, uint8 (3, H, W): upright, RGB, transparency over white.

    16-bit values, of which `bits` are used, are scaled to 8; of several frames in a file the one of this number is
    taken.

    Raises:
        TooBright: a value has more bits.
        UserError: the file is missing, broken, or holds pixels that have no 8-bit meaning.
        MachineLimit: the file may be sound, but this machine cannot read it now.
    """
    return decode(path, str(path), draft_side, frame, bits)


def decode(
    file: str | Path | BinaryIO, name: str, draft_side: int | None = None, frame: int = 0, bits: int = 16
) -> Tensor:
    """Return the image in an open file, see `read_image`; `name` is what an error calls it."""
    try:
        with opened(file, name) as image:
            if draft_side is not None:
                image.draft(None, (draft_side, draft_side))
            if frame:
                image.seek(frame)
            deep = deep_samples(image, file)
            if deep is None:
                image.load()
            return _tensor(image, deep, bits)
    except TooBright as error:
        raise TooBright(f"{name}: {error}") from error
    except MachineLimit:
        raise
    except BROKEN as error:
        reason = _reason(file) or one_line(error)
        raise UserError(f"{name}: cannot be read as an image ({reason}); replace or remove it") from error


def upright_rgb(image: Image.Image, bits: int = 16) -> Tensor:
    """Return an image that somebody opened as `read_image` does. Of colours of 16 bits Pillow keeps the upper 8.

    Raises:
        UserError: as `read_image`.
    """
    try:
        if not image.mode.startswith("I"):
            image.load()
            return _tensor(image, None, bits)
        known = image if getattr(image, "tile", ()) else image.copy()  # what is loaded no longer tells its format
        return _tensor(known, deep_samples(known, ""), bits)
    except BROKEN as error:
        raise UserError(f"image: cannot be read ({one_line(error)})") from error


def _tensor(image: Image.Image, deep: Samples | None, bits: int) -> Tensor:
    pixels = np.array(_to_rgb(_upright(image, image if deep is None else to_8_bits(deep, bits))))
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _reason(file: str | Path | BinaryIO) -> str | None:
    """Return why a file is no image where that is plain."""
    if isinstance(file, (str, Path)):
        return why_no_image(file)
    start = content(file)[:1024]
    return page_or_pointer(start) or other_format(start)


def num_pixels(file: str | Path | BinaryIO, name: str) -> int:
    """Return height times width of the image in an open file without decoding it; errors as of `decode`."""
    try:
        with opened(file, name) as image:
            return int(image.width * image.height)
    except MachineLimit:
        raise
    except BROKEN as error:
        raise UserError(f"{name}: cannot be read as an image ({_reason(file) or one_line(error)})") from error


@contextlib.contextmanager
def opened(file: str | Path | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    """Open an image file to look at it inside; `name` is what an error calls it.

    Raises:
        One of BROKEN: it is none.
        MachineLimit, MemoryError: it may be sound, but this machine cannot read it now.
    """
    if isinstance(file, (str, Path)) and is_no_file(file):
        raise ValueError(NO_FILE)
    try:
        with Image.open(file) as image:
            yield image
    except BROKEN as error:
        raise_limit(error, name or str(file))
        raise


def _upright(image: Image.Image, pixels: Image.Image) -> Image.Image:
    """Return the pixels turned as the image's EXIF orientation says; notes that cannot be read say nothing of them."""
    try:
        turn = TURNS.get(image.getexif().get(0x0112))
    except (*BROKEN, TypeError, LookupError):
        return pixels
    return pixels if turn is None else pixels.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        values = np.asarray(image)
        raise ValueError(f"pixel type F with values {values.min()} to {values.max()}; save whole numbers")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
