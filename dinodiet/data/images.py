"""Decoded images by position: from a tensor in memory or mapped from disk, from image files, and selections of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dinodiet.data.decode import num_pixels, read_image
from dinodiet.io.limits import raise_limit
from dinodiet.types import Images

LARGEST = 2**63 - 1


class TensorImages:
    """Images of one size, held as a uint8 (N, 1 | 3, H, W) tensor of any memory layout, gray or RGB."""

    def __init__(self, images: Tensor, labels: Tensor | None = None) -> None:
        assert images.dtype == torch.uint8 and images.ndim == 4 and images.shape[1] in (1, 3), "uint8 (N, 1 | 3, H, W)"
        assert labels is None or len(labels) == len(images), "one label an image"
        self.images = images
        self.labels = labels
        self._fingerprint: str | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> Tensor:
        """Return one image, uint8 (3, H, W); gray is repeated to three channels."""
        return self.images[position].expand(3, -1, -1).contiguous()

    def fetch(self, positions: Tensor) -> Tensor:
        """Return the images at these positions, uint8 (B, 3, H, W)."""
        return self.images.index_select(0, positions).expand(-1, 3, -1, -1).contiguous()

    def fingerprint(self) -> str:
        """Return a hash of shape and pixels."""
        if self._fingerprint is None:
            digest = hashlib.blake2b(str(tuple(self.images.shape)).encode(), digest_size=16)
            for start in range(0, len(self.images), 4096):
                # A chunk is copied where its memory is not in (N, C, H, W) order.
                digest.update(self.images[start : start + 4096].contiguous().numpy().data)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint


class MappedImages(TensorImages):
    """Images in an .npy file, (N, H, W) or (N, H, W, 3), read from disk on access: memory holds what is used."""

    def __init__(self, path: Path, labels: Tensor | None = None) -> None:
        # Copy-on-write: torch warns of arrays that it must not write to.
        super().__init__(nchw(np.load(path, mmap_mode="c", allow_pickle=False)), labels)
        self.path = path

    def __reduce__(self) -> tuple[type[MappedImages], tuple[Path, Tensor | None]]:
        """Let a worker process map the file itself instead of receiving the pixels."""
        return MappedImages, (self.path, self.labels)

    def fingerprint(self) -> str:
        """Return a hash of shape, file size and modification time: gigabytes are not read for it."""
        stat = self.path.stat()
        text = f"{tuple(self.images.shape)} {stat.st_size} {stat.st_mtime_ns}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class FileImages:
    """Images decoded from their files on access; sizes may differ.

    With `draft_side`, JPEG files are decoded at a smaller scale (`dinodiet.data.views.drafts`). With `frames`, image i
    is frame `frames[i]` of its file, else the first; frames of one file lie together. `bits` is how many of 16 bits
    images use.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        labels: Tensor | None = None,
        draft_side: int | None = None,
        frames: Sequence[int] | None = None,
    ) -> None:
        assert labels is None or len(labels) == len(paths), "one label an image"
        assert frames is None or len(frames) == len(paths), "one frame an image"
        self.frames = frames
        self.paths = [os.fspath(path) for path in paths]
        self.labels = labels
        self.draft_side = draft_side
        self.bits = 16
        self._fingerprint: str | None = None
        self._stats: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: int) -> Tensor:
        """Return one image, uint8 (3, H, W).

        Raises:
            UserError: the file is missing, broken, or holds pixels that have no 8-bit meaning.
        """
        path, frame = self.encoded(position)
        return read_image(path, self.draft_side, frame, self.bits)

    def encoded(self, position: int) -> tuple[str, int]:
        """Return the file of an image, and the number of its frame."""
        return self.paths[position], 0 if self.frames is None else self.frames[position]

    def num_pixels(self, position: int) -> int:
        """Return height times width from the head of the file; a UserError where there is none."""
        return num_pixels(self.paths[position], self.paths[position])

    def names(self) -> list[str]:
        """Return the paths of the files below the folder that holds all of them; frames as `file#number`."""
        root = os.path.commonpath(self.paths) if self.paths else "."
        names = [below(root, path) for path in self.paths]
        return names if self.frames is None else [f"{n}#{frame}" for n, frame in zip(names, self.frames, strict=True)]

    def fingerprint(self) -> str:
        """Return a hash of names, sizes and modification times: the pixels of a large folder are not read for it."""
        if self._fingerprint is None:
            digest = hashlib.blake2b(digest_size=16)
            for name, (size, changed) in zip(self.names(), self.stats()[:, :2].tolist(), strict=True):
                digest.update(os.fsencode(f"{name}\0{size}\0{changed}\n"))
            self._fingerprint = digest.hexdigest()
        return self._fingerprint if self.bits == 16 else f"{self._fingerprint}-{self.bits}"

    def stats(self) -> NDArray[np.int64]:
        """Return size in bytes, modification time in ns, device and inode of each file, (N, 4); -1 where there is none.

        They are read once.

        Raises:
            MachineLimit: the machine cannot say, see `raise_limit`.
        """
        if self._stats is None:
            self._stats = np.array([_stat(path) for path in self.paths], np.int64).reshape(-1, 4)
        return self._stats

    def __getstate__(self) -> dict[str, object]:
        """Leave out what worker processes do not use."""
        return {**self.__dict__, "_stats": None}


def _stat(path: str) -> tuple[int, int, int, int]:
    try:
        stat = os.stat(path)  # noqa: PTH116 - a million Path objects are slow
    except OSError as error:
        raise_limit(error, path)
        return -1, -1, -1, -1
    return stat.st_size, stat.st_mtime_ns, stat.st_dev & LARGEST, stat.st_ino & LARGEST


def below(root: str, path: str) -> str:
    """Return `os.path.relpath(path, root)`, which takes longer than all else that is done to open a large folder."""
    short = path.removeprefix(f"{root}/")
    plain = len(short) < len(path) and not short.startswith((".", "/")) and "/." not in short and "//" not in short
    return short if plain else os.path.relpath(path, root)


@dataclass(frozen=True)
class HeldOut:
    """How a split was held out of another that was published whole.

    `drawn_by` says how; None: with `dinodiet.data.splits.stratified_split`.
    """

    part: int | float
    seed: int
    source: str = "train"
    drawn_by: str | None = None


class Subset:
    """The images of `images` at `positions` (int64), in that order; a subset of a subset is one selection.

    `held_out` says how the positions were drawn where they are a split of our own; what is selected of it says so too.
    """

    def __init__(self, images: Images, positions: Tensor, held_out: HeldOut | None = None) -> None:
        if isinstance(images, Subset):
            held_out = held_out or images.held_out
            positions, images = images.positions[positions], images.images
        self.images: Images = images
        self.positions: Tensor = positions
        self.held_out: HeldOut | None = held_out
        self.labels = None if images.labels is None else images.labels[positions]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: int) -> Tensor:
        """Return one image, uint8 (3, H, W)."""
        return self.images[int(self.positions[position])]

    def fingerprint(self) -> str:
        """Return a hash of the parent's fingerprint and the positions."""
        digest = hashlib.blake2b(self.images.fingerprint().encode(), digest_size=16)
        digest.update(self.positions.contiguous().numpy().data)
        return digest.hexdigest()


def files_of(images: Images) -> Tensor | None:
    """Return a number for the file that each image comes from, int64 (N,); None where each has one of its own."""
    if isinstance(images, Subset):
        files = files_of(images.images)
        return None if files is None else files[images.positions]
    if not isinstance(images, FileImages) or images.frames is None:
        return None
    return torch.tensor([frame == 0 for frame in images.frames]).cumsum(0)


def fetch(images: Images, positions: Tensor | Sequence[int]) -> Tensor | list[Tensor]:
    """Return many images at once: uint8 (B, 3, H, W), or a list of B (3, H, W) where sizes differ."""
    positions = torch.as_tensor(positions, dtype=torch.int64)
    if isinstance(images, Subset):
        return fetch(images.images, images.positions[positions])
    if isinstance(images, TensorImages):
        return images.fetch(positions)
    items = [images[position] for position in positions.tolist()]
    if len({item.shape for item in items}) == 1:
        return torch.stack(items)
    return items


def nchw(images: NDArray[np.uint8]) -> Tensor:
    """Return (N, H, W) or (N, H, W, 3) as a (N, 1 | 3, H, W) tensor on the same memory.

    Raises:
        ValueError: the array has another type or shape.
    """
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise ValueError(f"{images.dtype} {images.shape} found; images are uint8 (N, H, W) or (N, H, W, 3)")
    tensor = torch.from_numpy(images)
    return tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.permute(0, 3, 1, 2)
