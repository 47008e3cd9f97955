"""Embeddings of large sets of images, part by part: memory holds the rows of one part."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dinodiet.data.images import Subset
from dinodiet.data.origin import files_below, part_of, positions_of
from dinodiet.errors import UserError
from dinodiet.features.embed import cache_key, embedded
from dinodiet.store.embeddings.parts import FORMAT, Part, Rows, key_of
from dinodiet.types import Images, InputSpec, Runtime


@dataclass(frozen=True)
class Source:
    """What is embedded: an encoder with its input, and splits of images; `root` is the folder of their files."""

    encoder: nn.Module
    input: InputSpec
    runtime: Runtime
    splits: Mapping[str, Images]
    root: str | None


def parts_of(source: Source, split: str, rows: int, encoder: str) -> list[Part]:
    """Return the parts of a split, of at least so many rows each, with keys that tell what they depend on.

    They are whole batches, so that images are embedded in the batches of an evaluation. `encoder` is its fingerprint.
    """
    images, batch = source.splits[split], source.runtime.batch_size
    size = -(-rows // batch) * batch
    found = []
    for number, start in enumerate(range(0, len(images), size)):
        stop = min(start + size, len(images))
        part = part_of(images, start, stop)
        names = files_below(images, start, start + 1, source.root or "")
        labels = None if part.labels is None else part.labels.numpy().tobytes()
        content = cache_key(encoder, part, source.input, source.runtime.precision)
        found.append(Part(split, number, start, stop, key_of((FORMAT, split, start, stop, content, labels, names))))
    return found


def rows_of(
    source: Source, split: str, parts: Sequence[Part], progress: Callable[[int], object] = lambda _: None
) -> Iterator[tuple[Part, Rows]]:
    """Yield parts of a split with their rows. One loader goes through them all.

    `progress` is called with the number of images of each batch.

    Raises:
        UserError: embeddings are not finite, or an image is broken.
    """
    images, positions = source.splits[split], [torch.arange(part.start, part.stop) for part in parts]
    if not parts:
        return
    selected = Subset(images, torch.cat(positions))
    with contextlib.closing(embedded(source.encoder, selected, source.input, source.runtime)) as batches:
        told = _told(batches, progress)
        for part in parts:
            yield part, _made(source, part, _taken(told, len(part)))


def _told(batches: Iterator[Tensor], progress: Callable[[int], object]) -> Iterator[Tensor]:
    for batch in batches:
        progress(len(batch))
        yield batch


def _taken(batches: Iterator[Tensor], count: int) -> Tensor:
    """Return the rows of so many batches as make up `count`."""
    taken: list[Tensor] = []
    while sum(map(len, taken)) < count:
        taken.append(next(batches))
    return torch.cat(taken)


def _made(source: Source, part: Part, features: Tensor) -> Rows:
    images = source.splits[part.split]
    names = files_below(images, part.start, part.stop, source.root or "")
    if not features.isfinite().all():
        raise UserError(_not_finite(source.runtime.precision, part, features, names))
    labels = None if images.labels is None else images.labels[part.start : part.stop].numpy()
    return Rows(positions_of(images)[part.start : part.stop].numpy(), names, labels, features.numpy())


def _not_finite(precision: str, part: Part, features: Tensor, names: list[str] | None) -> str:
    rows = (~features.isfinite().all(dim=1)).nonzero().squeeze(1).tolist()
    first = f"{part.split}[{part.start + rows[0]}]" if names is None else names[rows[0]]
    return f"precision: {precision}; the embeddings of {len(rows)} of {len(part)} images are not finite, as of {first}"
