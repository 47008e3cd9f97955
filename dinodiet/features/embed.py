"""Embeddings of un-augmented images, in sample order, and a cache of them on disk by content."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dinodiet.backbones.adapters import merged, plain_modules, plain_name
from dinodiet.backbones.modes import eval_mode
from dinodiet.data.images import fetch
from dinodiet.data.preprocess import preprocess
from dinodiet.data.workers import prepare_worker, watched
from dinodiet.io.files import atomic_file
from dinodiet.io.host_copy import HostCopy
from dinodiet.io.locks import read_or_compute
from dinodiet.processes.helping import asked, in_order_of
from dinodiet.processes.rows import WHOLE, Share
from dinodiet.types import Backbone, Embeddings, Images, InputSpec, Runtime

CACHE_VERSION = 1  # raise it when preprocessing changes: old embeddings are then not found


def embed(
    encoder: nn.Module,
    images: Images,
    input: InputSpec,
    runtime: Runtime,
    *,
    num_labels: int,
    multilabel: bool,
    progress: Callable[[int], object] | None = None,
    cache: EmbeddingCache | None = None,
    key: str | None = None,
) -> Embeddings:
    """Return the encoder's output for every image of a split, in sample order, with the labels where it has any.

    The encoder lies on the runtime's device. It runs in eval mode, and each of its modules gets the mode back that it
    had. `progress` is called with the number of images of each batch. No global random state is used. `key` is that of
    `cache_key`, for who knows it already: the fingerprint of a large encoder takes seconds.

    Raises:
        FloatingPointError: an embedding is not finite.
    """

    def compute() -> Tensor:
        batches = []
        for batch in embedded(encoder, images, input, runtime):
            batches.append(batch)
            if progress is not None:
                progress(len(batch))
        features = torch.cat(batches) if batches else torch.empty(0, 0)
        if not features.isfinite().all():
            raise FloatingPointError(f"the encoder's embeddings are not finite (precision={runtime.precision})")
        return features

    if cache is None:
        features = compute()
    else:
        key = key or cache_key(fingerprint(encoder), images, input, runtime.precision)
        features = cache.get(key, len(images), compute)
    return Embeddings(features, images.labels, num_labels, multilabel)


def in_order(
    images: Images, batch_size: int, num_workers: int, *, pin_memory: bool, share: Share = WHOLE
) -> Iterator[Tensor | list[Tensor]]:
    """Yield batches of the images in sample order, without labels; no random numbers are drawn.

    A process with a share has every `size`-th batch, from the `rank`-th on.

    Raises:
        MachineLimit, RuntimeError: as `dinodiet.data.workers.watched`.
    """
    loader: DataLoader[Tensor | list[Tensor]] = DataLoader(
        _Fetch(images),
        sampler=torch.split(torch.arange(len(images)), batch_size)[share.rank :: share.size],  # whole batches
        batch_size=None,
        num_workers=num_workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # without one, a loader draws from the global generator
        worker_init_fn=prepare_worker,
    )
    return watched(loader)


class _Fetch(Dataset[Tensor | list[Tensor]]):
    """A dataset whose items are whole batches."""

    def __init__(self, images: Images) -> None:
        self._images = images

    def __getitem__(self, positions: Tensor) -> Tensor | list[Tensor]:
        return fetch(self._images, positions)


def embedded(encoder: nn.Module, images: Images, input: InputSpec, runtime: Runtime) -> Generator[Tensor]:
    """Yield the encoder's output for one batch of images after the other: float32 (B, D) on the CPU, in sample order.

    Where other processes help, each computes every W-th batch. The encoder is in eval mode until the last batch is
    taken, or the iterator is closed.

    Raises:
        MachineLimit, RuntimeError: as `in_order`.
    """
    batches = -(-len(images) // runtime.batch_size)
    share = asked(encoder, images, input, runtime, pieces=batches)
    with contextlib.closing(pieces_of(encoder, images, input, runtime, share)) as own:
        yield from in_order_of(share, own, batches)


def pieces_of(
    encoder: nn.Module, images: Images, input: InputSpec, runtime: Runtime, share: Share
) -> Generator[Tensor]:
    """Yield what `embedded` does, of the batches that are one process's: each `size`-th, from the `rank`-th on."""
    memory_format = _memory_format(encoder)
    loaded = in_order(images, runtime.batch_size, runtime.num_workers, pin_memory=_on_gpu(runtime), share=share)
    with eval_mode(encoder):
        yield from _one_behind(_forward(encoder, batch, input, runtime, memory_format) for batch in loaded)


def _one_behind(outputs: Iterator[Tensor]) -> Generator[Tensor]:
    """Yield outputs on the CPU, each when the device has the next one to compute: it never waits for the host."""
    before: HostCopy | None = None
    for output in outputs:
        copied = HostCopy(output)
        if before is not None:
            yield before.wait()
        before = copied
    if before is not None:
        yield before.wait()


def _on_gpu(runtime: Runtime) -> bool:
    return runtime.device.type == "cuda"


# Not inference_mode: a tensor that a module makes then and keeps (rotary embeddings) could not be trained with later.
@torch.no_grad()
def _forward(
    encoder: nn.Module,
    batch: Tensor | list[Tensor],
    input: InputSpec,
    runtime: Runtime,
    memory_format: torch.memory_format,
) -> Tensor:
    device = runtime.device
    images = batch.to(device, non_blocking=True) if isinstance(batch, Tensor) else [i.to(device) for i in batch]
    inputs = preprocess(images, input).contiguous(memory_format=memory_format)
    with runtime.autocast():
        output: Tensor = encoder(inputs)
    return output.float()


def _memory_format(encoder: nn.Module) -> torch.memory_format:
    """Return channels_last if the encoder's convolutions are laid out so (those of one channel or 1x1 do not tell)."""
    for weight in encoder.parameters():
        if weight.ndim == 4 and not weight.is_contiguous() and weight.is_contiguous(memory_format=torch.channels_last):
            return torch.channels_last
    return torch.contiguous_format


def fingerprint(module: nn.Module, without: Iterable[nn.Module] = ()) -> str:
    """Return a hash of what a backbone computes: its classes, parameters, buffers, and the signature it describes.

    Parts of it that play no role are named in `without`. Adapters count as merged: before they are trained, a backbone
    with adapters is the one without.
    """
    assert isinstance(module, Backbone)
    left_out = {part for root in without for part in root.modules()}
    ids = {id(tensor) for part in left_out for tensor in (*part.parameters(), *part.buffers())}
    named = [*module.named_parameters(), *module.named_buffers()]
    strange = {plain_name(name) for name, tensor in named if id(tensor) in ids}
    digest = hashlib.blake2b(module.description.signature.encode(), digest_size=16)
    for name, part in plain_modules(module).items():
        if part not in left_out:
            digest.update(f"\0{name} {type(part).__qualname__}".encode())
    for name, tensor in merged(dict(named)).items():
        if name in strange:
            continue
        digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def cache_key(encoder: str, images: Images, input: InputSpec, precision: str) -> str:
    """Return a hash of all that embeddings depend on, with the encoder's fingerprint; the device is not part of it."""
    parts = (CACHE_VERSION, encoder, images.fingerprint(), input, precision)
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class EmbeddingCache:
    """Embeddings in files `folder/<key>.safetensors`, for many processes at once: each is computed by one of them."""

    folder: Path

    def get(self, key: str, num_images: int, compute: Callable[[], Tensor]) -> Tensor:
        """Return the stored features (num_images, D), or compute and store them. A broken file is replaced.

        A folder that cannot be written costs the storing, not the result.
        """
        path = self.folder / f"{key}.safetensors"
        return read_or_compute(path, lambda: _read(path, num_images), compute, lambda features: _write(path, features))


def _read(path: Path, num_images: int) -> Tensor | None:
    """Return the features in a file, or None if it is missing, broken or holds something else."""
    try:
        features = load_file(path).get("features")
    except (OSError, SafetensorError):
        return None
    if features is None or features.dtype != torch.float32 or features.ndim != 2 or len(features) != num_images:
        return None
    return features if features.isfinite().all() else None


def _write(path: Path, features: Tensor) -> None:
    with atomic_file(path) as unfinished:
        save_file({"features": features.contiguous()}, unfinished)
