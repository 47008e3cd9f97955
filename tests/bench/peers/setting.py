"""What all sides of a comparison share: images, crops, model, head and the clock. Imports no side's library."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

NUM_GLOBAL, HIDDEN, BOTTLENECK = 2, 2048, 256
GLOBAL_SCALE, LOCAL_SCALE, BLUR_SIGMA = (0.4, 1.0), (0.05, 0.4), (0.1, 2.0)
JITTER = (0.4, 0.4, 0.2, 0.1)
TEACHER_TEMP, MOMENTUM = 0.04, 0.996
LR, WEIGHT_DECAY = 1e-4, 0.04
NUM_CLASSES = 10


@dataclass(frozen=True)
class Setting:
    """One training: ViT-tiny, DINO's views, AdamW, float32; teacher and student in training mode, no drop path."""

    size: int  # pixels of a global crop
    local: int  # pixels of a local one
    patch: int
    stored: int  # pixels of the images in memory
    batch: int
    num_local: int = 6
    out_dim: int = 2048

    @property
    def timm_args(self) -> dict[str, Any]:
        """Return timm's arguments for `vit_tiny_patch16_224`."""
        return {"img_size": self.size, "patch_size": self.patch, "dynamic_img_size": True, "num_classes": 0}

    def __str__(self) -> str:
        crops = f"{NUM_GLOBAL}x{self.size}+{self.num_local}x{self.local}"
        model = f"vit_tiny/{self.patch}, {self.out_dim} prototypes"
        return f"{model}, crops {crops} of {self.stored} px images, batch {self.batch}"


SETTINGS = {
    "32": Setting(size=32, local=16, patch=8, stored=32, batch=32),
    "32-fine": Setting(size=32, local=16, patch=4, stored=32, batch=8),  # nearly all matrix products
    "64": Setting(size=64, local=32, patch=16, stored=64, batch=32),
    "224": Setting(size=224, local=96, patch=16, stored=256, batch=4),
}


def images(number: int, size: int) -> NDArray[np.uint8]:
    """Return smooth coloured images, uint8 (number, size, size, 3): what they show costs nobody anything."""
    coarse = np.random.default_rng(0).integers(0, 256, (number, 8, 8, 3), dtype=np.uint8)
    large = [Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC) for pixels in coarse]
    return np.stack([np.asarray(image) for image in large])


class Images(Dataset[tuple[Any, int]]):
    """A dataset as the peers' documentation has it: (PIL image, label), or (transform(image), label)."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], transform: Any = None) -> None:
        self.images = [Image.fromarray(image).convert("RGB") for image in pixels]
        self.labels, self.transform = labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> tuple[Any, int]:
        image = self.images[position]
        return image if self.transform is None else self.transform(image), self.labels[position]


def generated(chosen: Setting, batches: int = 12) -> Images:
    """Return enough images for an epoch of so many batches."""
    number = batches * chosen.batch
    return Images(images(number, chosen.stored), np.arange(number) % NUM_CLASSES)


class Meter:
    """Times training steps, each from the end of the one before, but not the first, which warms up.

    `steps` are pairs of seconds: by the wall clock, and of the CPU time of this process and its loader's processes.
    """

    def __init__(self) -> None:
        self.steps: list[tuple[float, float]] = []
        self._before: tuple[float, float] | None = None

    def step_done(self, *_: object) -> None:
        now = time.perf_counter(), time.process_time() + sum(_workers())
        if self._before is not None:
            self.steps.append((now[0] - self._before[0], now[1] - self._before[1]))
        self._before = now


def _workers() -> Iterator[float]:
    """Yield the CPU seconds of each loader's process that is alive."""
    for process in multiprocessing.active_children():
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        yield (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
