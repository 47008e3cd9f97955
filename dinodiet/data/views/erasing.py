"""Random erasing of a batch of views (Zhong et al. 2020, arXiv:1708.04896): a box of some of them has one colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dinodiet.data.views.sending import send
from dinodiet.processes.rows import draw_rows

AREA, RATIO = (0.02, 0.33), (0.3, 3.3)  # of the box: part of the view, and height over width, as torchvision has them
TRIES = 10


def erase(views: Tensor, probability: float, colour: Sequence[float], generator: torch.Generator) -> Tensor:
    """Return views (B, 3, s, s) in 0..1 of which some have a box of a colour; the backbone's mean is 0 once normalised.

    Boxes and who has one are drawn from the generator, on the CPU.
    """
    top, left, height, width = send(draw_erased(len(views), views.shape[-1], probability, generator), views.device).T
    line = torch.arange(views.shape[-1], device=views.device)
    rows, columns = (
        (line >= start[:, None]) & (line < (start + length)[:, None])
        for start, length in ((top, height), (left, width))
    )
    box = rows[:, None, :, None] & columns[:, None, None, :]
    return torch.where(box, torch.tensor(colour, device=views.device).view(1, 3, 1, 1), views)


def draw_erased(number: int, side: int, probability: float, generator: torch.Generator) -> Tensor:
    """Draw boxes (top, left, height, width), int64 (number, 4), of a view's side; without a box height and width are 0.

    The area is uniform in `AREA`, the ratio log-uniform in `RATIO`. Of ten tries the first that is smaller than the
    view is taken; where none is, nothing is erased.
    """

    def draw(rows: int) -> Tensor:
        return torch.rand(rows, 2 * TRIES + 3, generator=generator, dtype=torch.float64)

    drawn = draw_rows(draw, number, generator)
    area = side**2 * (AREA[0] + (AREA[1] - AREA[0]) * drawn[:, :TRIES])
    low, high = map(math.log, RATIO)
    ratio = (low + (high - low) * drawn[:, TRIES:-3]).exp()
    height, width = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (height < side) & (width < side)
    first = fits.long().argmax(1, keepdim=True)
    chosen = (fits.any(1) & (drawn[:, -3] < probability))[:, None]
    height, width = (length.gather(1, first) * chosen for length in (height, width))
    starts = [
        (part * (side - length + 1)).floor() for part, length in ((drawn[:, -2:-1], height), (drawn[:, -1:], width))
    ]
    return torch.cat([*starts, height, width], 1).long()
