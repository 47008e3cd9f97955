"""Training batches in an order that is a function of (seed, epoch), whatever the number of workers."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from dinodiet.data.images import TensorImages, fetch
from dinodiet.data.workers import prepare_worker, watched
from dinodiet.processes.batches import check_divided, part_size
from dinodiet.processes.rows import WHOLE, Share
from dinodiet.types import Batch, Clock, Images


class TrainLoader:
    """Shuffled batches of a split, without end; the last incomplete batch of an epoch is dropped.

    With `fill` it is completed by the first images of the epoch, so that each image is seen in every epoch. A set
    smaller than the batch size gives batches of the whole set. `steps_per_epoch` follows. Of each of the `parts` of a
    batch, between which gradients are accumulated, a process reads its `share`.

    Raises:
        UserError: processes cannot share the parts of a batch evenly.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        seed: int,
        num_workers: int = 0,
        pin_memory: bool = False,
        *,
        fill: bool = False,
        share: Share = WHOLE,
        parts: int = 1,
    ) -> None:
        self.images = images
        self.batch_size = used_batch_size(batch_size, len(images))
        self.steps_per_epoch = (len(images) + (self.batch_size - 1 if fill else 0)) // self.batch_size
        self.share, self._parts = share, parts
        check_divided(self.batch_size, parts, share.size)
        self._seed = seed
        self._num_workers = num_workers
        self._pin_memory = pin_memory

    def batches(self, step: int) -> Iterator[Batch]:
        """Yield the batches from optimiser step `step` on; a resumed run sees what the first one would have seen."""
        order = _Order(len(self.images), self.batch_size, self.steps_per_epoch, self._seed, step)
        loader: DataLoader[Batch] = DataLoader(
            _Batches(self.images),
            sampler=order if self.share.size == 1 else _Own(order, self.share, self._parts),
            batch_size=None,  # the sampler yields whole batches of positions
            num_workers=self._num_workers,
            pin_memory=self._pin_memory,
            worker_init_fn=prepare_worker,
        )
        yield from watched(loader)


def used_batch_size(batch_size: int, num_images: int) -> int:
    """Return how many images a step sees: the batch size, or the whole set where that is smaller."""
    return min(batch_size, num_images)


def without_pixels(images: Images) -> TensorImages:
    """Return a stand-in of the same length and labels, with images of no pixels: nothing is decoded for it."""
    return TensorImages(torch.empty(len(images), 3, 0, 0, dtype=torch.uint8), images.labels)


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on a device.

    To a GPU they are copied on a stream of their own: the host is ahead of the device by most of a step, so a batch is
    there before the step that computes with it begins.
    """
    if device.type != "cuda":
        yield from (batch.to(device) for batch in batches)
        return
    copying = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(copying):
            moved = batch.to(device)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copying)
        for tensor in moved.tensors():  # their memory must not be given out again before the step has read them
            tensor.record_stream(computing)
        yield moved


class _Order(Sampler[Tensor]):
    """Positions of one batch after another: each epoch a permutation drawn from (seed, epoch)."""

    def __init__(self, num_images: int, batch_size: int, steps_per_epoch: int, seed: int, step: int) -> None:
        self._num_images, self._batch_size, self._steps_per_epoch = num_images, batch_size, steps_per_epoch
        self._seed, self._step = seed, step

    def __iter__(self) -> Iterator[Tensor]:
        epoch, skip = divmod(self._step, self._steps_per_epoch)
        while True:
            generator = Clock(epoch, 0, 1, seed=self._seed).generator("order")
            permutation = torch.randperm(self._num_images, generator=generator)
            missing = max(self._steps_per_epoch * self._batch_size - self._num_images, 0)
            permutation = torch.cat([permutation, permutation[:missing]])
            for batch in range(skip, self._steps_per_epoch):
                yield permutation[batch * self._batch_size : (batch + 1) * self._batch_size]
            epoch, skip = epoch + 1, 0


class _Own(Sampler[Tensor]):
    """Positions of this process's images of one batch after another: its share of each part."""

    def __init__(self, order: _Order, share: Share, parts: int) -> None:
        self._order, self._share, self._parts = order, share, parts

    def __iter__(self) -> Iterator[Tensor]:
        for positions in self._order:
            parts = positions.split(part_size(len(positions), self._parts))
            yield torch.cat([self._share.of(part) for part in parts])


class _Batches(Dataset[Batch]):
    """A dataset whose items are whole batches, fetched in one go where the images lie in memory."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __getitem__(self, positions: Tensor) -> Batch:
        labels = self._images.labels
        return Batch(
            images=fetch(self._images, positions),
            label=None if labels is None else labels[positions],
            index=positions,
        )
