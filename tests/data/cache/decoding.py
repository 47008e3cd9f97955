"""Folders of images that are decoded once, and what tells whether they were."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dinodiet.data.dataset import open_dataset
from dinodiet.data.sources.folder import image_folder
from dinodiet.types import Data, Images

SPLITS = ("pretext", "train", "val", "test")


def folder(root: Path, count: int = 12) -> Path:
    """Write images of many sizes, twice `count` for train and `count` for test."""
    draw = np.random.default_rng(0)
    for split, name, i in itertools.product(("train", "test"), ("ant", "bee"), range(count)):
        if split == "test" and i % 2:
            continue
        path = root / split / name / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (5 + i, 20 - i, 3), dtype=np.uint8)).save(path)
    return root


def opened(root: Path, **options: Any) -> Data:
    return open_dataset(image_folder(root=str(root)), **options)


def everything(data: Data) -> list[Tensor]:
    splits: list[Images] = [getattr(data, name) for name in SPLITS]
    return [split[position] for split in splits for position in range(len(split))]


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.pixels"))


def same(ours: Data, plain: Data) -> bool:
    pairs = zip(everything(ours), everything(plain), strict=True)
    return all(torch.equal(one, other) for one, other in pairs)
