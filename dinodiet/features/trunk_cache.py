"""What a frozen trunk makes of a fixed number of views of each image, computed once and kept on disk.

A view of all images is one file: row i is the trunk's output for image i, mapped into memory when it is drawn from.
Its name is a hash of all that it depends on: the trunk's weights, images, views, their seed and number, precision and
type. Runs that differ only in what comes after the trunk share the files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from filelock import Timeout
from torch import Tensor
from tqdm import tqdm

from dinodiet.backbones.freeze import first_trained
from dinodiet.backbones.split import Split
from dinodiet.backbones.trainable import parsed
from dinodiet.config.ranges import Range, Seed
from dinodiet.data.images import fetch
from dinodiet.errors import UserError
from dinodiet.features.embed import fingerprint, in_order
from dinodiet.io.bars import interval
from dinodiet.io.files import atomic_file
from dinodiet.io.locks import exclusive_writer
from dinodiet.io.room import check_room
from dinodiet.io.units import byte_size
from dinodiet.processes.gathering import gathered
from dinodiet.processes.rows import draw_for_module
from dinodiet.types import Backbone, Clock, Images, Runtime, Views

Stored = Literal["bf16", "fp32"]

VERSION = 2  # raise it when views or the order of drawing change: old files are then not found
CHUNK = 64  # images augmented and pushed through the trunk at once: their views depend on it
_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass(frozen=True)
class Part:
    """One of the trunk's outputs for one image: its shape, type and memory layout."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    layout: torch.memory_format

    def restored(self, rows: Tensor) -> Tensor:
        """Return rows (B, n) of numbers in the form in which the trunk gave them."""
        return rows.view(-1, *self.shape).to(self.dtype).contiguous(memory_format=self.layout)


def trunk_cache(
    backbone: Backbone,
    augment: Views,
    trainable: str,
    *,
    views: Annotated[int, Range(0, 10_000)] = 0,
    noise: Annotated[float, Range(0, 100)] = 0.0,
    dtype: Stored = "bf16",
    seed: Seed[int] = 0,
) -> TrunkCache | None:
    """Return the cache of a method's `trunk` node; None: no views are to be kept. The arguments are `TrunkCache`'s.

    Raises:
        UserError: noise without views, or no block is frozen whole before the first one that is trained (all, or a part
            of every block).
    """
    if noise and not views:
        raise UserError(f"noise: {noise}; must be 0 where no views are cached")
    if views == 0:
        return None
    first = first_trained(backbone, trainable)
    if trainable == "all" or (first == 0 and parsed(trainable).in_part):
        raise UserError(
            f"views: {views}, but with trainable {trainable} nothing is frozen before the first trained layer; choose "
            "trainable from: head_only, last_<n>_blocks, or cache 0 views"
        )
    split = Split(backbone, first)
    return TrunkCache(split, augment, num_views=views, noise=noise, dtype=dtype, seed=seed)


class TrunkCache:
    """At most `num_views` views of each image (no more than there are epochs), behind the trunk of `split`.

    In every epoch each image is seen once, in one of its views; all views are used up before one is used again, in an
    order that depends on (seed, epoch). `prepare` comes before the first `draw`.

    Args:
        split: the backbone, already in its place (device, frozen parts).
        augment: makes one view of a batch of images.
        num_views: how many views of each image are kept.
        dtype: of the numbers in the files.
        seed: of the views; not the run's, so that runs with different seeds can share them.
        noise: standard deviation of the Gaussian noise on what is drawn, in units of its own. It makes a view that
            comes back another one: over 150 epochs on 100 digits, eight views train as well as new ones with it.
    """

    def __init__(self, split: Split, augment: Views, *, num_views: int, noise: float, dtype: Stored, seed: int) -> None:
        self.split, self.augment = split, augment
        self.num_views, self._seed, self._dtype, self._noise = num_views, seed, _DTYPES[dtype], noise
        self._parts: list[Part] = []
        self._side = 0
        self._files: list[Tensor] = []  # one per view, (images, numbers), mapped

    def prepare(self, images: Images, clock: Clock, runtime: Runtime) -> None:
        """Find the files of the views that this training uses, or write them; tell their size before.

        Raises:
            UserError: there is no folder of caches, the files cannot be written, or there is no room for them.
        """
        if runtime.cache is None:
            raise UserError("trunk: a trunk cache needs a folder of caches")
        folder = runtime.cache / "trunks"
        numbers = range(self._used(clock))
        with runtime.autocast():
            self._look(fetch(images, [0]), runtime.device)
        width = sum(math.prod(part.shape) for part in self._parts)
        size = len(images) * width * self._dtype.itemsize
        key = self._key(images, runtime.precision)
        paths = [folder / f"{key}_view{number}.bin" for number in numbers]
        missing = [number for number in numbers if not _complete(paths[number], size)]
        if missing:
            _announce(len(paths), len(missing), size, folder)
        with _bar(len(missing) * len(images)) as bar:
            for number, path in _one_by_one(missing, paths, size):
                with runtime.autocast():
                    self._write(path, self._rows(number, images, runtime), bar)
        self._files = [
            torch.from_file(str(path), size=len(images) * width, dtype=self._dtype).view(len(images), width)
            for path in paths
        ]

    def view(self, images: Images, index: Tensor, clock: Clock) -> Tensor:
        """Return the view (B, 3, s, s) of which `draw` returns what the trunk makes, on the device of `index`.

        It is made again, with the images that it was made with: those of the same chunk.
        """
        number, found = _number(clock, self._used(clock)), dict[int, Tensor]()
        for chunk in dict.fromkeys((index // CHUNK).tolist()):
            pixels = fetch(images, range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(images))))
            found[chunk] = self._augmented(number, chunk, pixels, index.device)
        return torch.stack([found[place // CHUNK][place % CHUNK] for place in index.tolist()])

    def _used(self, clock: Clock) -> int:
        """Return how many views of an image a training uses."""
        return min(self.num_views, max(1, math.ceil(clock.total_epochs)))

    def _augmented(self, number: int, chunk: int, pixels: Tensor | list[Tensor], device: torch.device) -> Tensor:
        """Return view `number` of the images of a chunk."""
        generator = Clock(number, 0, 1, seed=self._seed, part=chunk).generator("trunk views")
        (view,) = self.augment(_to(pixels, device), generator)
        return view

    @property
    def ready(self) -> bool:
        """Return whether `prepare` was called."""
        return bool(self._files)

    def draw(self, index: Tensor, clock: Clock) -> tuple[Tensor, ...]:
        """Return the trunk's output for the images at `index`, int64 (B,), in the epoch's view of them.

        The noise comes from the global generator, which the training loop seeds at every step.
        """
        rows = self._files[_number(clock, len(self._files))].index_select(0, index.cpu()).to(index.device)
        pieces = rows.split([math.prod(part.shape) for part in self._parts], dim=1)
        hidden = (part.restored(piece) for part, piece in zip(self._parts, pieces, strict=True))
        return tuple(self._noisy(part) if self._noise and part.is_floating_point() else part for part in hidden)

    def _noisy(self, hidden: Tensor) -> Tensor:
        noise = draw_for_module(lambda rows: torch.randn_like(hidden[:1].expand(rows, *hidden.shape[1:])), len(hidden))
        return torch.addcmul(hidden, noise, self._noise * gathered(hidden).std())

    def rest(self, hidden: tuple[Tensor, ...]) -> Tensor:
        """Return the backbone's embeddings (B, embed_dim) from what was drawn."""
        return self.split.rest(hidden, self._side)

    def _key(self, images: Images, precision: str) -> str:
        augment = repr(self.augment)
        if " at 0x" in augment:
            raise UserError(f"views: {augment} does not tell its settings; give it a __repr__")
        trunk = fingerprint(self.split.backbone, without=self.split.trained())
        parts = (VERSION, trunk, self.split.first, images.fingerprint(), augment, self._seed, precision, self._dtype)
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def _look(self, images: Tensor | list[Tensor], device: torch.device) -> None:
        """See what the trunk returns for one image, and that the backbone can be split."""
        (view,) = self.augment(_to(images, device), torch.Generator().manual_seed(0))
        self._side = view.shape[-1]
        hidden = self.split.checked(view)
        self._parts = [Part(tuple(part.shape[1:]), part.dtype, _layout(part)) for part in hidden]

    @staticmethod
    def _write(path: Path, chunks: Iterator[Tensor], bar: tqdm[Any]) -> None:
        """Write a view's file so that a reader finds all of it or nothing; the caller holds the lock."""
        try:
            with atomic_file(path) as unfinished, unfinished.open("wb") as file:
                for rows in chunks:
                    file.write(rows.view(torch.uint8).numpy().data)
                    bar.update(len(rows))
        except OSError as error:
            raise _cannot_be_written(path, error) from error

    @torch.no_grad()
    def _rows(self, number: int, images: Images, runtime: Runtime) -> Iterator[Tensor]:
        """Yield the trunk's output for view `number` of the images in order, (B, numbers) on the CPU."""
        device = runtime.device
        chunks = in_order(images, CHUNK, runtime.num_workers, pin_memory=device.type == "cuda")
        for part, chunk in enumerate(chunks):
            view = self._augmented(number, part, chunk, device)
            yield torch.cat([piece.flatten(1).to(self._dtype) for piece in self.split.trunk(view)], dim=1).cpu()


def _number(clock: Clock, files: int) -> int:
    """Return which of so many views an epoch draws from."""
    cycle, position = divmod(clock.epoch, files)
    order = torch.randperm(files, generator=Clock(cycle, 0, 1, seed=clock.seed).generator("trunk"))
    return int(order[position])


def _one_by_one(missing: list[int], paths: list[Path], size: int) -> Iterator[tuple[int, Path]]:
    """Yield the numbers and paths of files to write, locked; those that others write at this time come last."""
    waiting: list[int] = []
    for wait, numbers in ((False, missing), (True, waiting)):
        for number in numbers:
            try:
                with exclusive_writer(paths[number], wait=wait):
                    if not _complete(paths[number], size):
                        yield number, paths[number]
            except Timeout:
                waiting.append(number)
            except OSError as error:
                raise _cannot_be_written(paths[number], error) from error


def _cannot_be_written(path: Path, error: OSError) -> UserError:
    return UserError(f"trunk: {path} cannot be written ({error}); choose another folder of caches")


def _announce(views: int, missing: int, size: int, folder: Path) -> None:
    """Say how large the files are, before they are written.

    Raises:
        UserError: there is no room for them.
    """
    print(
        f"trunk cache: {views} views, {byte_size(views * size)} in {folder}, {missing} of them to write",
        flush=True,
    )
    try:
        check_room(folder, missing * size)
    except OSError as error:
        raise UserError(f"trunk: {error.strerror}; choose fewer views, or another folder of caches") from error


def _bar(total: int) -> tqdm[Any]:
    return tqdm(total=total, desc="trunk cache", unit="img", mininterval=interval(), disable=total == 0)


def _complete(path: Path, size: int) -> bool:
    return path.exists() and path.stat().st_size == size


def _to(images: Tensor | list[Tensor], device: torch.device) -> Tensor | list[Tensor]:
    return images.to(device) if isinstance(images, Tensor) else [image.to(device) for image in images]


def _layout(tensor: Tensor) -> torch.memory_format:
    last = tensor.ndim == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
