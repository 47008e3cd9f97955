"""What decoding every image of a set once shows: broken, blank, duplicated and nearly duplicated images."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from tqdm import tqdm

from dinodiet.data.images import FileImages, Subset
from dinodiet.data.samples import TooBright
from dinodiet.data.sources.arrays import BROKEN, read_array
from dinodiet.errors import MachineLimit, UserError, printable
from dinodiet.io.files import atomic_file, parse_json
from dinodiet.types import Images

SHOWN = 3
NEAR_BITS = 3  # hashes that differ in so many of 64 bits belong to images that look alike
BANDS = 4  # parts of a hash: of two that differ in fewer bits than there are parts, one part is equal
COMPARED = 10_000  # hashes with an equal part that are compared with one hash

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inspection:
    """What was seen of N images, in their order.

    Attributes:
        errors: why an image cannot be decoded, by position.
        blank: (N,) whether all pixels are of one colour.
        content: (N,) a hash of the pixels.
        look: (N,) a perceptual hash, see `difference_hash`; 0: too plain to be told from others.
    """

    errors: dict[int, str]
    blank: NDArray[np.bool_]
    content: NDArray[np.uint64]
    look: NDArray[np.uint64]


def inspect(images: Images) -> Inspection:
    """Decode every image, in threads: Pillow does so outside Python's lock."""

    def seen(position: int) -> tuple[str | None, bool, int, int]:
        try:
            image = images[position]
        except (MachineLimit, TooBright):  # the machine cannot read it, or a setting is wrong: not the file
            raise
        except UserError as broken:
            return str(broken).removesuffix("; replace or remove it"), False, 0, 0
        digest = hashlib.blake2b(f"{tuple(image.shape)}".encode() + image.numpy().tobytes(), digest_size=8).digest()
        blank = bool((image.flatten(1).amin(1) == image.flatten(1).amax(1)).all())
        return None, blank, int.from_bytes(digest, "little"), difference_hash(image)

    positions: Sequence[int] = range(len(images))
    with ThreadPoolExecutor(cpu_count()) as pool:
        bar = tqdm(pool.map(seen, positions), "decoding", len(images), disable=len(images) < 1000, leave=False)
        found = list(bar)
    return Inspection(
        errors={position: one[0] for position, one in enumerate(found) if one[0] is not None},
        blank=np.array([one[1] for one in found], np.bool_),
        content=np.array([one[2] for one in found], np.uint64),
        look=np.array([one[3] for one in found], np.uint64),
    )


def difference_hash(image: Tensor) -> int:
    """Return 64 bits of an image (3, H, W): whether it grows darker from each of 8 x 9 gray cells to the next (dHash).

    Resizing and compression change few of them.
    """
    cells = adaptive_avg_pool2d(image.float().mean(0, keepdim=True), (8, 9))[0]
    bits = (cells[:, :-1] > cells[:, 1:]).flatten().numpy()
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def write_inspection(path: Path, found: Inspection) -> None:
    """Keep what was found in a file."""
    errors = np.frombuffer(json.dumps(found.errors).encode(), np.uint8)
    with atomic_file(path) as unfinished, unfinished.open("wb") as stream:
        np.savez_compressed(stream, errors=errors, blank=found.blank, content=found.content, look=found.look)


def read_inspection(path: Path, count: int) -> Inspection | None:
    """Return what was kept of `count` images; None where the file is missing, broken, or of something else."""
    try:
        errors, *seen = (read_array(path, key) for key in ("errors", "blank", "content", "look"))
        told = {int(position): str(text) for position, text in parse_json(errors.tobytes()).items()}
    except (OSError, AttributeError, *BROKEN):
        return None
    kinds = zip(seen, (np.bool_, np.uint64, np.uint64), strict=True)
    whole = all(array.dtype == kind and array.shape == (count,) for array, kind in kinds)
    return Inspection(told, *seen) if whole and all(0 <= position < count for position in told) else None


def report(name: str, splits: Mapping[str, Images], found: Mapping[str, Inspection]) -> None:
    """Warn of blank images, of exact copies, and of images in different splits that look alike."""
    for split, images in splits.items():
        if count := int(found[split].blank.sum()):
            names = [name_of(images, int(position)) for position in found[split].blank.nonzero()[0][:SHOWN]]
            _warn(f"{name}, split {split}: {count} of {len(images)} images are of one colour", count, names)
    copies = list(_copies(splits, found))
    _warn(f"{name}: {len(copies)} images are exact copies of others", len(copies), copies[:SHOWN])
    for first, second in ((a, b) for number, a in enumerate(splits) for b in list(splits)[number + 1 :]):
        near = [
            (i, j)
            for i, j in near_pairs(found[first].look, found[second].look)
            if found[first].content[i] != found[second].content[j]
        ]
        pairs = [f"{name_of(splits[first], i)} and {name_of(splits[second], j)}" for i, j in near[:SHOWN]]
        _warn(f"{name}: {len(near)} images of split {second} look like one of {first}", len(near), pairs)


def _warn(text: str, count: int, examples: Sequence[str]) -> None:
    if count:
        log.warning("%s: %s%s", text, "; ".join(examples), "; ..." if count > SHOWN else "")


def _copies(splits: Mapping[str, Images], found: Mapping[str, Inspection]) -> Iterator[str]:
    """Yield the names of images whose pixels are those of an earlier one, with its name; blank ones are told apart."""
    first: dict[int, tuple[str, int]] = {}
    for split, images in splits.items():
        seen = found[split]
        for position in np.flatnonzero(~seen.blank).tolist():
            if position in seen.errors:
                continue
            known = first.setdefault(int(seen.content[position]), (split, position))
            if known != (split, position):
                other = f"{known[0]} {name_of(splits[known[0]], known[1])}"
                yield f"{split} {name_of(images, position)} = {other}"


def near_pairs(first: NDArray[np.uint64], second: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """Return for each hash of `second` that differs from one of `first` in `NEAR_BITS` at most: both positions."""
    pairs: dict[int, int] = {}
    for band in range(BANDS):
        keys, wanted = ((hashes >> np.uint64(16 * band)) & np.uint64(0xFFFF) for hashes in (first, second))
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], wanted, "left")
        ends = np.minimum(np.searchsorted(keys[order], wanted, "right"), starts + COMPARED)
        for j in np.flatnonzero((ends > starts) & (second != 0)).tolist():
            candidates = order[starts[j] : ends[j]]
            near = candidates[_distance(first[candidates], second[j]) <= NEAR_BITS]
            near = near[first[near] != 0]
            if len(near):
                pairs.setdefault(j, int(near[0]))
    return [(i, j) for j, i in sorted(pairs.items())]


def _distance(hashes: NDArray[np.uint64], other: np.uint64) -> NDArray[np.int64]:
    bits: NDArray[np.int64] = np.unpackbits((hashes ^ other)[:, None].view(np.uint8), axis=1).sum(
        axis=1, dtype=np.int64
    )
    return bits


def name_of(images: Images, position: int) -> str:
    """Return what an image is called: its file, or its number."""
    if isinstance(images, Subset):
        return name_of(images.images, int(images.positions[position]))
    if isinstance(images, FileImages):
        return printable(images.paths[position]) + ("" if images.frames is None else f"#{images.frames[position]}")
    return f"image {position}"


def path_of(images: Images, position: int) -> str | None:
    """Return the file of an image; None where it has none of its own."""
    if isinstance(images, Subset):
        return path_of(images.images, int(images.positions[position]))
    return images.paths[position] if isinstance(images, FileImages) else None
