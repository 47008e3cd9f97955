"""Which patches of which views are covered: blocks of them, as DINOv2 does it (Oquab et al. 2023, arXiv:2304.07193)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dinodiet.processes.rows import share_of

SMALLEST = 4  # patches of a block, where so many are still to be covered
NARROWEST = 0.3  # ratio of a block's sides (Bao et al. 2021, arXiv:2106.08254, algorithm 1)
TRIES = 10  # to place a block, before the view is left as it is


@dataclass(frozen=True)
class Covering:
    """The covered patches of V views of N patches, T in all.

    `covered` is bool (V, N), row by row; `index` int64 (T,) counts them through all views; `share` float32 (T,) is 1
    over the number of covered patches of the same view.
    """

    covered: Tensor
    index: Tensor
    share: Tensor

    def to(self, device: torch.device) -> Covering:
        """Return it on a device."""
        return Covering(*(part.to(device, non_blocking=True) for part in (self.covered, self.index, self.share)))


def draw_covering(
    views: int,
    grid: tuple[int, int],
    ratio: Sequence[float],
    part: float,
    generator: torch.Generator,
    *,
    blocks: int = 1,
) -> Covering:
    """Draw which patches are covered: in the `part` of the views (at least one), between the two parts in `ratio`.

    Of k such views, the i-th has its ratio from the i-th of k equal steps between the two; which views they are is
    drawn too. At least one patch of each is covered. `grid` is the number of rows and of columns. `views` are those of
    this process, in so many `blocks` of images.
    """
    # torch's draws cannot be read where planning runs without values
    draw = np.random.default_rng(generator.initial_seed())
    share = share_of(generator)
    everything = views * share.size
    masks = np.zeros((everything, *grid), dtype=bool)
    chosen = draw.permutation(everything)[: max(int(everything * part), 1)]
    steps = np.linspace(ratio[0], ratio[1], len(chosen) + 1)
    for view, low, high in zip(chosen, steps[:-1], steps[1:], strict=True):
        _cover(masks[view], max(int(draw.uniform(low, high) * masks[view].size), 1), draw)
    flat = masks.reshape(blocks, share.size, views // blocks, -1)[:, share.rank].reshape(views, -1)
    counts = np.repeat(flat.sum(1), flat.sum(1))
    return Covering(*map(torch.from_numpy, (flat, flat.ravel().nonzero()[0], (1 / counts).astype(np.float32))))


def _cover(mask: np.ndarray, number: int, draw: np.random.Generator) -> None:
    """Cover `number` patches of a view by blocks, or somewhat fewer where no further block is found."""
    while (rest := number - int(mask.sum())) > 0 and _place(mask, rest, draw):
        pass
    if not mask.any():
        mask.flat[draw.integers(mask.size)] = True


def _place(mask: np.ndarray, most: int, draw: np.random.Generator) -> bool:
    """Place one block that covers at most so many patches more; return whether one was found."""
    for _ in range(TRIES):
        area, ratio = draw.uniform(min(SMALLEST, most), most), _between(NARROWEST, 1 / NARROWEST, draw)
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if not (0 < height < mask.shape[0] and 0 < width < mask.shape[1]):
            continue
        top, left = draw.integers(mask.shape[0] - height + 1), draw.integers(mask.shape[1] - width + 1)
        block = mask[top : top + height, left : left + width]
        if 0 < block.size - block.sum() <= most:
            block[:] = True
            return True
    return False


def _between(low: float, high: float, draw: np.random.Generator) -> float:
    """Draw a ratio of which the logarithm is uniform."""
    return math.exp(draw.uniform(math.log(low), math.log(high)))
