"""Image files decoded once: their pixels in one file of the cache, which every later run maps into memory."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import PIL
import torch
from torch import Tensor

from dinodiet.data.cache.pixels import PixelFile, read_pixels, write_pixels
from dinodiet.data.images import Subset
from dinodiet.errors import MachineLimit, UserError
from dinodiet.io.locks import exclusive_writer
from dinodiet.io.room import check_room
from dinodiet.io.units import byte_size
from dinodiet.types import Data, Images

VERSION = 2  # raise it when `read_image` gives other pixels: old files are then not found
SAMPLE = 128  # images whose heads are read to tell how large a set is once decoded

log = logging.getLogger(__name__)


@runtime_checkable
class Encoded(Images, Protocol):
    """Images that are decoded at every access, and that can tell their sizes without."""

    def num_pixels(self, position: int) -> int:
        """Return height times width; a UserError where the image is broken."""
        ...


def keep_decoded(data: Data, folder: Path, limit_gib: float, threads: int = 1) -> Data:
    """Return the same data, with image files decoded once and mapped into memory if all of them fit.

    What the splits use of each set of files is decoded, by one process while others wait. The result is the same as
    without: pixels, errors of broken images (they are decoded again when they are used) and fingerprints. A folder
    that cannot be written costs the keeping, not the run.

    Args:
        data: an opened dataset; what is not decoded at access (`Encoded`) stays as it is.
        folder: where the files with the pixels are.
        limit_gib: a set that takes more GiB is decoded at every access, 0: every set.
        threads: that decode; Pillow does so outside Python's lock.
    """
    if limit_gib == 0:
        return data
    splits = [data.pretext, data.train, data.val, data.test]
    used = [selection for selection in _used(splits) if isinstance(selection.images, Encoded)]
    missing = [selection for selection in used if read_pixels(_path(selection, folder), len(selection)) is None]
    needed = sum(map(estimated_bytes, missing))
    if needed > limit_gib * 2**30 or not _has_room(folder, needed):
        return data
    kept = {id(s.images): DecodedImages(s, file) for s in used if (file := _pixels(s, folder, threads)) is not None}
    moved = {id(images): _moved(images, kept) for images in splits}  # one split under two names stays one
    pretext, train, val, test = (moved[id(images)] for images in splits)
    unseen = train if data.unseen is data.train else data.unseen  # others are rarely asked for
    return replace(data, pretext=pretext, train=train, val=val, test=test, unseen=unseen)


class DecodedImages:
    """The images that a selection was made of, equal in all; those selected are taken from a file with their pixels."""

    def __init__(self, selection: Subset, pixels: PixelFile) -> None:
        self.images = selection.images
        self.labels = self.images.labels
        self._pixels = pixels
        self._rows = torch.full((len(self.images),), -1)
        self._rows[selection.positions] = torch.arange(len(selection))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Tensor:
        """Return one image, uint8 (3, H, W); one that is not in the file is decoded, or named as broken."""
        row = int(self._rows[position])
        found = None if row < 0 else self._pixels[row]
        return self.images[position] if found is None else found

    def fingerprint(self) -> str:
        """Return that of the images: what is computed from them does not depend on where their pixels come from."""
        return self.images.fingerprint()


def estimated_bytes(images: Subset) -> int:
    """Return what encoded images take once decoded, from the heads of some of them, evenly spaced."""
    sample = images.positions[:: max(len(images) // SAMPLE, 1)].tolist()
    return 3 * sum(_num_pixels(images.images, position) for position in sample) * len(images) // len(sample)


def _num_pixels(images: Images, position: int) -> int:
    assert isinstance(images, Encoded)
    try:
        return images.num_pixels(position)
    except MachineLimit:
        raise
    except UserError:  # named when it is used
        return 0


def _used(splits: list[Images]) -> list[Subset]:
    """Return what the splits use of each set that they were selected from, in the order of the set."""
    used: dict[int, tuple[Images, Tensor]] = {}
    for images in splits:
        base = images.images if isinstance(images, Subset) else images
        _, mask = used.setdefault(id(base), (base, torch.zeros(len(base), dtype=torch.bool)))
        mask[images.positions if isinstance(images, Subset) else slice(None)] = True
    return [Subset(base, mask.nonzero().squeeze(1)) for base, mask in used.values()]


def _moved(images: Images, kept: dict[int, DecodedImages]) -> Images:
    if isinstance(images, Subset) and id(images.images) in kept:
        return Subset(kept[id(images.images)], images.positions, images.held_out)
    return kept.get(id(images), images)


def _path(selection: Subset, folder: Path) -> Path:
    content = f"{VERSION} {PIL.__version__} {selection.fingerprint()}"
    return folder / f"{hashlib.blake2b(content.encode(), digest_size=16).hexdigest()}.pixels"


def _has_room(folder: Path, needed: int) -> bool:
    """Tell whether the files leave at least as much room on the disk as they take."""
    try:
        check_room(folder, needed, spare=needed)
    except OSError as error:
        log.warning("image files are not kept decoded: %s", error.strerror)
        return False
    return True


def _pixels(selection: Subset, folder: Path, threads: int) -> PixelFile | None:
    """Return the pixels of a selection, written by this process or by another; None where they cannot be kept."""
    path, count = _path(selection, folder), len(selection)
    if (found := read_pixels(path, count)) is not None:
        return found
    try:
        with exclusive_writer(path, on_wait=_say_that_it_waits):
            if read_pixels(path, count) is None:  # another process may have been first
                _decode(path, selection, threads)
            return read_pixels(path, count)
    except OSError as error:  # read-only, full, or a file system without locks
        log.warning("image files are not kept decoded in %s: %s", folder, error)
        return None


def _say_that_it_waits() -> None:
    print("waiting for another process that decodes the image files", flush=True)


def _decode(path: Path, selection: Subset, threads: int) -> None:
    size = byte_size(estimated_bytes(selection))
    print(f"decoding {len(selection):,} image files once: about {size} in {path.parent}", flush=True)

    def image(row: int) -> Tensor | None:
        try:
            return selection[row]
        except MachineLimit:
            raise
        except UserError:  # it is decoded again, and named, where it is used
            return None

    write_pixels(path, len(selection), image, threads)
