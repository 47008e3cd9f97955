"""Files that hold several images: multi-page TIFF, animated GIF and WebP."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from os import cpu_count
from typing import Literal

import torch
from torch import Tensor

from dinodiet.data.decode import BROKEN, opened
from dinodiet.data.images import FileImages
from dinodiet.errors import MachineLimit

Frames = Literal["first", "all"]
SUFFIXES = (".tif", ".tiff", ".gif", ".webp")
LOOKED_AT = 2000  # files that are opened to tell how many have several frames

log = logging.getLogger(__name__)


def framed(paths: Sequence[str], labels: Tensor | None, frames: Frames) -> FileImages:
    """Return the images in these files: the first frame of each, or every frame as an image of its own.

    How many files have more than one frame is told, so that none is left out without a word.
    """
    candidates = [place for place, path in enumerate(paths) if path.lower().endswith(SUFFIXES)]
    step = 1 if frames == "all" else max(1, len(candidates) // LOOKED_AT)
    candidates = candidates[::step]
    with ThreadPoolExecutor(cpu_count()) as pool:
        found = dict(zip(candidates, pool.map(num_frames, [paths[place] for place in candidates]), strict=True))
    several = [place for place in candidates if found[place] > 1]
    if not several:
        return FileImages(paths, labels)
    if frames == "first":
        log.warning(
            "%d of %d files hold several frames (%s has %d), of which the first is taken; frames=all takes all",
            *(len(several), len(candidates), paths[several[0]], found[several[0]]),
        )
        return FileImages(paths, labels)
    counts = torch.tensor([found.get(place, 1) for place in range(len(paths))])
    log.info("%d of %d files hold several frames: %d images in all", len(several), len(paths), int(counts.sum()))
    every = torch.arange(len(paths)).repeat_interleave(counts).tolist()
    numbers = [number for count in counts.tolist() for number in range(count)]
    repeated = None if labels is None else labels.repeat_interleave(counts, dim=0)
    return FileImages([paths[place] for place in every], repeated, frames=numbers)


def num_frames(path: str) -> int:
    """Return the number of frames in a file; 1 of what cannot be read, which is named where it is used."""
    try:
        with opened(path) as image:
            return int(getattr(image, "n_frames", 1))
    except MachineLimit:
        raise
    except BROKEN:
        return 1
