"""Images of more than 8 bits a sample as their files hold them, and as 8; of colours Pillow keeps the upper byte."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from dinodiet.errors import UserError

COLOURS = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3, "CMYK": 4}
OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
SEPARATE = 2  # TIFF's PlanarConfiguration
BITS_PER_SAMPLE, PLANES = 258, 284

Encoded = str | Path | BinaryIO


class TooBright(UserError):  # noqa: N818 - a fact about an image
    """An image has values of more bits than its set is said to use."""


@dataclass(frozen=True)
class Samples:
    """The values of an image, (H, W, bands of `mode`).

    `white` is the largest value that there can be, where the format says so; None: any of 16 bits.
    """

    mode: str
    values: NDArray[np.integer]
    white: int | None = None

    @property
    def colours(self) -> NDArray[np.integer]:
        """Return the values without opacity."""
        return self.values[..., : COLOURS[self.mode]]


def deep_samples(image: Image.Image, file: Encoded) -> Samples | None:
    """Return the values of an image that was opened from this file and not loaded; None: they have 8 bits.

    Raises:
        ValueError: they cannot be read, or what else Pillow raises.
    """
    if image.mode.startswith("I"):
        white = _white(image)
        found = Samples("L", np.asarray(image)[..., None], white)  # I;16 or, from some formats, 32-bit I
    elif (read := _reader(image)) is not None:
        found = read(image, file)
    else:
        return None
    return _with_transparency(found, image.info.get("transparency"))


def to_8_bits(samples: Samples, bits: int) -> Image.Image:
    """Return an image of 8 bits from one of which so many bits are used, rounded.

    Raises:
        TooBright: a value has more bits.
        ValueError: a value is negative, or has more than 16 bits.
    """
    top, least, most = samples.white or 2**bits - 1, int(samples.colours.min()), int(samples.colours.max())
    if least < 0 or most >= 2**16:
        raise ValueError(f"values {least} to {most}, not 0 to {2**16 - 1} (16 bits)")
    if most > top:
        more = most.bit_length()
        raise TooBright(
            f"values up to {most}, more than the {top} of bits={bits}; "
            + (f"set bits={more}, or bits=16 where others are brighter" if more < 16 else "set bits=16")
        )
    bands = [_scaled(samples.colours, top)]
    opacity = samples.values[..., COLOURS[samples.mode] :]
    if opacity.size:  # some write it in 16 bits beside colours of fewer
        bands.append(_scaled(opacity, top if opacity.max() <= top else 2**16 - 1))
    height, width = samples.values.shape[:2]
    return Image.frombytes(samples.mode, (width, height), np.concatenate(bands, axis=-1).tobytes())


def _scaled(values: NDArray[np.integer], top: int) -> NDArray[np.uint8]:
    return np.asarray(_table(top)[values])


@functools.lru_cache(maxsize=8)
def _table(top: int) -> NDArray[np.uint8]:
    """Return 8 bits for each value up to `top`."""
    return np.asarray(np.rint(np.arange(top + 1) * (255 / top)), dtype=np.uint8)


def content(file: Encoded) -> bytes:
    """Return all bytes of a file."""
    if isinstance(file, (str, Path)):
        return Path(file).read_bytes()
    file.seek(0)
    return file.read()


def _white(image: Any) -> int | None:
    """Return the largest value of a gray image where its format says it."""
    if image.format == "PPM" and image.tile[0][0] != "raw":
        return None if _largest_of_ppm(image) == 2**16 - 1 else 2**16 - 1  # Pillow has scaled them
    if image.format == "JPEG2000":  # so it has here
        return 2**16 - 1
    bits = _tags(image).get(BITS_PER_SAMPLE, (16,))[0]
    return 2**bits - 1 if 8 < bits < 16 else None


def _reader(image: Any) -> Callable[[Any, Encoded], Samples] | None:
    """Return what reads the colours of an image where they have 16 bits."""
    if image.mode not in COLOURS or not image.tile:
        return None
    if image.format == "PNG" and str(image.tile[0][3]).endswith(";16B"):
        return _png
    if image.format == "PPM" and image.mode == "RGB" and _largest_of_ppm(image) == 2**16 - 1:
        return _ppm
    if image.format == "TIFF" and _tags(image).get(BITS_PER_SAMPLE, (8,))[0] == 16:
        return _tiff
    return None


def _png(image: Any, file: Encoded) -> Samples:
    raw = str(image.tile[0][3])
    if raw == "LA;16B":  # four bytes a pixel, whose bands Pillow repeats
        _read_as(image, "RGBA")
        values = np.asarray(image).astype(np.uint16)
        return Samples("LA", values[..., ::2] << 8 | values[..., 1::2])
    return Samples(image.mode, _both_bytes(image, file, raw))


def _ppm(image: Any, file: Encoded) -> Samples:
    decoder, _, offset, _ = image.tile[0]
    data, count = content(file)[offset:], image.width * image.height * 3
    values: NDArray[np.integer]
    if decoder == "ppm_plain":
        values = np.array(re.sub(rb"#[^\r\n]*", b"", data).split()[:count], dtype=np.int64)
    else:
        values = np.frombuffer(data, ">u2", count).astype(np.uint16)
    return Samples("RGB", values.reshape(image.height, image.width, 3))


def _largest_of_ppm(image: Any) -> int:
    args = image.tile[0][3]
    return 255 if isinstance(args, str) else int(args[-1])


def _tiff(image: Any, file: Encoded) -> Samples:
    if _tags(image).get(PLANES) == SEPARATE:
        raise ValueError("16-bit colours in separate planes; write them pixel by pixel")
    raw = str(image.tile[0][3][0])
    straight = raw.replace("a", "A")  # RGBa: Pillow would divide bytes by opacity
    values = _both_bytes(image, file, straight)
    return Samples(image.mode, values if raw == straight else _divided(values))


def _both_bytes(image: Any, file: Encoded, raw: str) -> NDArray[np.uint16]:
    """Decode twice: the upper bytes, and the lower ones as if they were the upper ones of the other byte order."""
    with Image.open(file) as again:
        again.seek(image.tell())
        _read_as(again, raw[:-1] + OTHER_BYTE[raw[-1]])
        _read_as(image, raw)
        return np.asarray(np.asarray(image).astype(np.uint16) << 8 | np.asarray(again))


def _read_as(image: Any, raw: str) -> None:
    """Have Pillow read the bytes of an image in another layout."""
    make: Any = getattr(ImageFile, "_Tile", lambda *fields: fields)  # of older versions it is a tuple
    image.tile = [
        make(decoder, box, offset, raw if isinstance(args, str) else (raw, *args[1:]))
        for decoder, box, offset, args in image.tile
    ]
    image.load()


def _divided(values: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return RGBA whose colours were multiplied by their opacity as they were before."""
    colours, opacity = np.split(values.astype(np.int64), [3], axis=-1)
    full = 2 ** int(opacity.max()).bit_length() - 1
    return np.concatenate([np.minimum(colours * full // np.maximum(opacity, 1), full), opacity], axis=-1)


def _tags(image: Any) -> dict[int, Any]:
    return dict(getattr(image, "tag_v2", {}))


def _with_transparency(samples: Samples, key: Any) -> Samples:
    """Add opacity where one gray value or colour is transparent."""
    if key is None or samples.mode not in ("L", "RGB"):
        return samples
    opacity = np.where((samples.values == np.asarray(key)).all(axis=-1, keepdims=True), 0, 2**16 - 1)
    values = np.concatenate([samples.values.astype(np.int64), opacity], axis=-1)
    return Samples(f"{samples.mode}A", values, samples.white)
