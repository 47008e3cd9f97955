"""Decoded images of any sizes in one file that is mapped into memory, written in one piece."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from dinodiet.io.files import write_atomically

HASH_BYTES = 16
LONGEST = 2**20  # pixels of a side; a file from elsewhere may say anything
BLOCK = 32  # images a thread that wait in memory to be written


class PixelFile:
    """Images by row, from a file that `write_pixels` wrote.

    The file holds uint8 (3, H, W) one after the other; int64 (N, 2) heights and widths, 0 where there is no image; and
    a hash of these sizes.

    Raises:
        ValueError: the file is not whole, or is of another number of images.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path, count: int) -> None:
        self.path = path
        file = np.memmap(path, mode="r", dtype=np.uint8).view(np.ndarray)
        end = len(file) - HASH_BYTES
        sizes = file[max(end - 16 * count, 0) : max(end, 0)].tobytes()
        if count < 1 or len(sizes) != 16 * count or _digest(sizes) != file[end:].tobytes():
            raise ValueError(f"{path} is not whole")
        self._sizes = np.frombuffer(sizes, np.int64).reshape(-1, 2)
        if self._sizes.min() < 0 or self._sizes.max() > LONGEST:
            raise ValueError(f"{path} has sizes that no image has")
        self._ends = np.cumsum(3 * self._sizes.prod(axis=1))
        if (self._ends < 0).any() or int(self._ends[-1]) + len(sizes) != end:
            raise ValueError(f"{path} is not whole")
        self._pixels = file

    def __len__(self) -> int:
        return len(self._sizes)

    def __getitem__(self, row: int) -> Tensor | None:
        """Return a copy of one image, uint8 (3, H, W); None where there is none."""
        height, width = self._sizes[row].tolist()
        if not height:
            return None
        end = int(self._ends[row])
        return torch.from_numpy(self._pixels[end - 3 * height * width : end].copy()).view(3, height, width)

    def __reduce__(self) -> tuple[type[PixelFile], tuple[Path, int]]:
        """Let a worker process map the file itself instead of receiving the pixels."""
        return PixelFile, (self.path, len(self))


def read_pixels(path: Path, count: int) -> PixelFile | None:
    """Return the images in a file, None where it is missing or not whole."""
    try:
        return PixelFile(path, count)
    except (OSError, ValueError):
        return None


def write_pixels(path: Path, count: int, image: Callable[[int], Tensor | None], threads: int) -> None:
    """Write `count` images, uint8 (3, H, W) each, that `image` returns by row, so many threads at a time.

    Raises:
        OSError: the file cannot be written; nothing is left of it.
    """
    write_atomically(path, lambda stream: _write(stream, count, image, threads))


def _write(stream: IO[bytes], count: int, image: Callable[[int], Tensor | None], threads: int) -> None:
    sizes: NDArray[np.int64] = np.zeros((count, 2), np.int64)

    def decode(rows: range) -> list[Tensor | None]:
        return [image(row) for row in rows]

    with (
        ThreadPoolExecutor(threads) as pool,
        tqdm(total=count, desc="decoding", unit="img", leave=False, delay=2) as bar,
    ):
        blocks = [range(start, min(start + BLOCK, count)) for start in range(0, count, BLOCK)]
        for first in range(0, len(blocks), threads):  # the next are decoded when these are written
            for rows, images in zip(blocks[first:], pool.map(decode, blocks[first : first + threads]), strict=False):
                for row, pixels in zip(rows, images, strict=True):
                    if pixels is not None:
                        sizes[row] = pixels.shape[1:]
                        stream.write(pixels.numpy().data)
                bar.update(len(rows))
    stream.write(sizes.tobytes())
    stream.write(_digest(sizes.tobytes()))


def _digest(sizes: bytes) -> bytes:
    return hashlib.blake2b(sizes, digest_size=HASH_BYTES).digest()
