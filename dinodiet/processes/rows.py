"""Which rows of a batch a process computes, and random numbers that are those of one process for all rows.

A batch lies in blocks (one a view) of the images of all processes; a process has an equal part of every block. What is
random is drawn for all rows in every process, and each takes its own: the numbers of an image do not depend on how many
processes there are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from dinodiet.processes.gathering import rank, size


@dataclass(frozen=True)
class Share:
    """The part of each block of rows that a process computes: the `rank`-th of `size` equal ones."""

    rank: int = 0
    size: int = 1

    def of(self, rows: Tensor, blocks: int = 1, dim: int = 0) -> Tensor:
        """Return the rows of this process, (blocks x n), of those of all, (blocks x size x n)."""
        if self.size == 1:
            return rows
        own: Tensor = rows.unflatten(dim, (blocks, self.size, -1)).select(dim + 1, self.rank)
        return own.flatten(dim, dim + 1)


WHOLE = Share()


class RowGenerator(torch.Generator):
    """A generator of which every process has the same, and the part of what is drawn that is this one's."""

    share: Share


def share_of(generator: torch.Generator) -> Share:
    """Return the part of what a generator draws that is this process's."""
    return generator.share if isinstance(generator, RowGenerator) else WHOLE


def draw_rows(
    draw: Callable[[int], Tensor], rows: int, generator: torch.Generator, *, blocks: int = 1, dim: int = 0
) -> Tensor:
    """Return what `draw` draws for this process's rows: it is called for those of all processes together.

    Args:
        draw: from the number of rows, which become dimension `dim`; it uses the generator.
        rows: of this process, in all blocks.
        generator: says which process this is.
        blocks: views, one behind another, each of all images.
        dim: that of the rows.
    """
    share = share_of(generator)
    return share.of(draw(rows * share.size), blocks, dim)


class _State:
    images = 0  # of the batch that modules are called with, in any thread; 0: they draw for their own rows


@contextlib.contextmanager
def modules_draw_for(images: int) -> Iterator[None]:
    """Have modules draw as if all rows were computed here; a process has so many images of each view."""
    before, _State.images = _State.images, images
    try:
        yield
    finally:
        _State.images = before


def draw_for_module(draw: Callable[[int], Tensor], rows: int) -> Tensor:
    """Return what a module draws from the global generator, which all processes have set alike, for its rows."""
    images = _State.images
    if not images or size() == 1:
        return draw(rows)
    if rows % images:
        raise RuntimeError(f"a module has {rows} rows of a batch of {images} images, which are no views of them")
    return Share(rank(), size()).of(draw(rows * size()), rows // images)
