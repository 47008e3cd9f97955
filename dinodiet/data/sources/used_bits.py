"""How many of their 16 bits images use: cameras and scanners of 10, 12 or 14 bits write files of 16, near black."""

from __future__ import annotations

import io
import logging
import random
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from dinodiet.data.decode import BROKEN, opened
from dinodiet.data.images import FileImages, Subset
from dinodiet.data.samples import content, deep_samples
from dinodiet.errors import MachineLimit
from dinodiet.types import Images

SHALLOW = (".jpg", ".jpeg", ".bmp", ".gif", ".webp")  # of formats that never hold more than 8 bits
OPENED = 512  # images of a split that may be looked at
SHALLOW_OPENED = 64  # images of 8 bits after which no other is expected
ENOUGH, MOST = 2**24, 2**25  # values that are looked at where they end at a power of two minus one, and where not
MAX_SAMPLE_VALUE = 281  # a tag of TIFF

log = logging.getLogger(__name__)


@runtime_checkable
class Deep(Images, Protocol):
    """Encoded images, which may have 16 bits."""

    bits: int

    def encoded(self, position: int) -> tuple[str | BinaryIO, int]:
        """Return the file of an image, and the number of its frame."""
        ...


@dataclass(frozen=True)
class Seen:
    """What was seen of images of 16 bits: the largest value, the bits that files say are used, the number of values."""

    largest: int = 0
    declared: int = 0
    count: int = 0

    def __add__(self, other: Seen) -> Seen:
        """Return what was seen of both."""
        largest, declared = max(self.largest, other.largest), max(self.declared, other.declared)
        return Seen(largest, declared, self.count + other.count)

    @property
    def bits(self) -> int | None:
        """Return how many bits are used; None: it cannot be told."""
        bits = self.largest.bit_length()
        if bits in (0, 16):
            return 16
        if bits <= self.declared:
            return self.declared
        if bits <= 8:  # nothing else would be seen of them
            return 8
        return bits if self.largest == 2**bits - 1 else None


def scale_to_used_bits(splits: Iterable[Images | None], bits: int | None, place: str | Path) -> None:
    """Have all images of a set scaled from the same number of bits; None: from what a sample of them uses.

    That is less than 16 where the largest value of the sample is a power of two minus one (4095 means 12 bits) or below
    256, or where the files say so: sBIT in PNG, MaxSampleValue in TIFF. What a format itself says of each file, as the
    largest value in the head of PGM, is heeded for that file alone.
    """
    sets = list({id(images): images for images in map(_parent, splits) if isinstance(images, Deep)}.values())
    chosen = bits or _used_bits(sets, place)
    for images in sets:
        images.bits = chosen


def _parent(images: Images | None) -> Images | None:
    return images.images if isinstance(images, Subset) else images


def _used_bits(sets: Sequence[Deep], place: str | Path) -> int:
    seen = _look(sets)
    bits, needed = seen.bits, seen.largest.bit_length()
    if bits is None:
        told = "%s: 16-bit images whose values end at %d; bits=%d scales them to that, or more if others are brighter"
        log.warning(told, place, seen.largest, needed)
    elif bits < 16:
        told = "%s: 16-bit images that use %d bits are scaled to that; bits=16 leaves them as they are"
        log.warning(told, place, bits)
    return bits or 16


def _look(sets: Sequence[Deep]) -> Seen:
    """Look at images until their bits are plain, or at as many as takes less than a second."""
    seen, shallow = Seen(), 0
    for images, position in _in_turn(sets):
        found = _seen(*images.encoded(position))
        seen, shallow = seen + found, shallow + (not found.count)
        if seen.largest >= 2**15 or seen.count > (MOST if seen.bits is None else ENOUGH):
            break
        if shallow >= SHALLOW_OPENED and not seen.count:
            break
    return seen


def _in_turn(sets: Sequence[Deep]) -> Iterator[tuple[Deep, int]]:
    orders = [_order(images) for images in sets]
    for place in range(max(map(len, orders), default=0)):
        yield from ((images, order[place]) for images, order in zip(sets, orders, strict=True) if place < len(order))


def _order(images: Deep) -> list[int]:
    """Return positions evenly over a split, in turn with those of its largest files: bright images pack worse."""
    if not isinstance(images, FileImages):
        return _spread(range(len(images)))
    found = [place for place, path in enumerate(images.paths) if not path.lower().endswith(SHALLOW)]
    sizes = images.stats()[found, 0] if found else np.empty(0)
    large = [found[place] for place in np.argsort(-sizes, kind="stable")[:OPENED].tolist()]
    return list(dict.fromkeys(place for pair in zip(large, _spread(found), strict=False) for place in pair))


def _spread(places: Sequence[int]) -> list[int]:
    chosen = places[:: -(-len(places) // OPENED) or 1]
    return random.Random(0).sample(chosen, len(chosen))


def _seen(file: str | BinaryIO, frame: int) -> Seen:
    """Return what is seen of an image; nothing of one of 8 bits, one that says its range, and one that is broken."""
    try:
        with opened(file) as image:
            if frame:
                image.seek(frame)
            samples = deep_samples(image, file)
            if samples is None or samples.white is not None:
                return Seen()
            return Seen(int(samples.colours.max()), _declared(image, file), samples.colours.size)
    except MachineLimit:
        raise
    except BROKEN:
        return Seen()


def _declared(image: Image.Image, file: str | BinaryIO) -> int:
    """Return how many bits a file says that its values use; 0: it says nothing, or nothing sensible."""
    if image.format == "PNG":
        return _significant(io.BytesIO(content(file)), 1 if image.mode in ("L", "I", "I;16") else 3)
    value = getattr(image, "tag_v2", {}).get(MAX_SAMPLE_VALUE, 0)
    most = max(value) if isinstance(value, tuple) else value
    return most.bit_length() if isinstance(most, int) and most & (most + 1) == 0 and most < 2**16 - 1 else 0


def _significant(png: BinaryIO, bands: int) -> int:
    """Return what the chunk sBIT says of gray or colours, less than 16."""
    png.seek(8)
    while len(head := png.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"sBIT":
            bits = max(png.read(length)[:bands], default=0)
            return bits if 8 <= bits < 16 else 0
        if kind == b"IDAT":
            break
        png.seek(length + 4, io.SEEK_CUR)
    return 0
