"""What images are normalised by: mean and deviation of the weights, of the dataset, or given numbers."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import numpy as np
import PIL
import torch
from torch import Tensor

from dinodiet.data.cache.decoded import VERSION, Encoded
from dinodiet.data.cache.place import cache_folder
from dinodiet.data.images import Subset
from dinodiet.errors import UserError
from dinodiet.io.files import read_json, write_json
from dinodiet.io.locks import read_or_compute
from dinodiet.types import Images, Statistics

MOST, THREADS = 1000, 16
FLAT = 1e-6  # what rounding leaves of the deviation of equal pixels is below
Normalization = Literal["checkpoint", "dataset"] | dict[str, list[float]]

log = logging.getLogger(__name__)


def chosen_statistics(
    normalization: Normalization, published: Statistics | None, images: Images, seed: int, title: str
) -> Statistics | None:
    """Return what `dataset.normalization` asks for; None: what the weights were trained with.

    Args:
        normalization: `checkpoint`; `dataset`: the published numbers, else those of a sample of `images`; or the
            numbers themselves, `{mean: [r, g, b], std: [r, g, b]}` on a 0-1 scale.
        published: the dataset's numbers, if there are any.
        images: what self-supervised training sees.
        seed: of the sample.
        title: of the dataset, for what is printed.

    Raises:
        UserError: the numbers are none that pixels can be normalised by.
    """
    if normalization == "checkpoint":
        return None
    if isinstance(normalization, Mapping):
        return _given(normalization)
    if published is not None:
        return published
    found = _kept_statistics(images, seed)
    log.info("%s: mean %s, deviation %s, %s", title, _rounded(found.mean), _rounded(found.std), found.origin)
    return found


def _kept_statistics(images: Images, seed: int) -> Statistics:
    """Return the statistics of images; of files one process computes them, and others read them from the cache."""
    folder = cache_folder()
    if folder is None or not isinstance(images.images if isinstance(images, Subset) else images, Encoded):
        return image_statistics(images, seed)
    content = f"{VERSION} {PIL.__version__} {images.fingerprint()} {seed} {MOST}"
    path = folder / "statistics" / f"{hashlib.blake2b(content.encode(), digest_size=16).hexdigest()}.json"
    return read_or_compute(
        path, lambda: _read(path), lambda: image_statistics(images, seed), lambda found: write_json(path, asdict(found))
    )


def _read(path: Path) -> Statistics | None:
    """Return the statistics that a file holds; None where it is missing or broken."""
    found = read_json(path) or {}
    try:
        given = _given({name: found[name] for name in ("mean", "std")})
        return Statistics(given.mean, given.std, str(found["origin"]))
    except (UserError, KeyError, TypeError, ValueError):
        return None


def image_statistics(images: Images, seed: int, most: int = MOST) -> Statistics:
    """Return mean and deviation of the pixels of a random sample of images; images count alike, whatever their sizes.

    Raises:
        UserError: a channel has one value in all of them.
    """
    chosen = np.random.RandomState(seed).permutation(len(images))[:most].tolist()
    with ThreadPoolExecutor(THREADS) as pool:
        moments = torch.stack(list(pool.map(lambda position: _moments(images[position]), chosen))).mean(dim=0)
    mean = moments[0]
    std = (moments[1] - mean.square()).clamp(min=0).sqrt()
    if bool((std < FLAT).any()):
        raise UserError("normalization: dataset, but all pixels of a channel are equal; set checkpoint")
    origin = f"computed from {len(chosen):,} of {len(images):,} training images, seed {seed}"
    return Statistics(_three(mean.tolist()), _three(std.tolist()), origin)


def _moments(image: Tensor) -> Tensor:
    """Return means and mean squares per channel, (2, 3), of uint8 (3, H, W), on a 0-1 scale."""
    pixels = image.double().flatten(1) / 255
    return torch.stack([pixels.mean(dim=1), pixels.square().mean(dim=1)])


def _given(values: Mapping[str, Sequence[float]]) -> Statistics:
    if sorted(values) != ["mean", "std"] or any(len(numbers) != 3 for numbers in values.values()):
        raise UserError(f"normalization: {dict(values)}; give mean and std, each of three numbers")
    mean, std = _three(values["mean"]), _three(values["std"])
    if not all(0 <= number <= 1 for number in mean) or not all(0 < number <= 1 for number in std):
        raise UserError(f"normalization: mean {list(mean)}, std {list(std)}; pixels are in 0..1, std is above 0")
    return Statistics(mean, std, "given")


def _three(numbers: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = map(float, numbers)
    return red, green, blue


def _rounded(numbers: Sequence[float]) -> str:
    return "/".join(f"{number:.3f}" for number in numbers)
