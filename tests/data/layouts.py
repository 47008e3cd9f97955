"""Small sets in published layouts whose pixels say which image they are."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import FileImages, Subset
from dinodiet.types import Images


def png(number: int) -> bytes:
    """Return an image file whose red and green channels hold a number from 0 to 65535; lossless whatever its name."""
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (number // 256, number % 256, 7)).save(buffer, "png")
    return buffer.getvalue()


def write(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(number))


def numbers(images: Images) -> list[int]:
    """Return the numbers of the images, read from their pixels."""
    pixels = torch.stack([images[position][:, 0, 0] for position in range(len(images))]).long()
    assert torch.equal(pixels[:, 2], torch.full((len(images),), 7))
    return (pixels[:, 0] * 256 + pixels[:, 1]).tolist()


def splits(source: RawSplits) -> dict[str, tuple[list[int], list[int]]]:
    """Return the numbers and the labels of each split that is there."""
    found: dict[str, Any] = {"train": source.train, "val": source.val, "test": source.test}
    return {name: (numbers(s), s.labels.tolist()) for name, s in found.items() if s is not None}


def files(images: Images) -> set[str]:
    """Return the files of a split."""
    if isinstance(images, Subset):
        assert isinstance(images.images, FileImages)
        return {images.images.paths[position] for position in images.positions.tolist()}
    assert isinstance(images, FileImages)
    return set(images.paths)


def food101(root: Path) -> Path:
    """Write 3 dishes with 4 training images and 2 test images each; number = 100 * label + place."""
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    for split, places in {"train": range(4), "test": range(4, 6)}.items():
        lists = {name: [f"{name}/{label}00{i}" for i in places] for label, name in reversed(list(enumerate(DISHES)))}
        (folder / "meta" / f"{split}.json").write_text(json.dumps(lists))
    for label, name in enumerate(DISHES):
        for i in range(6):
            write(folder / "images" / name / f"{label}00{i}.jpg", 100 * label + i)
    return folder


DISHES = ("apple_pie", "ceviche", "waffles")


def aircraft(root: Path) -> Path:
    """Write 3 variants of 2 families of 1 manufacturer, 2 images of each in each split; number = the image's name."""
    data = root / "fgvc-aircraft-2013b" / "data"
    data.mkdir(parents=True)
    (data / "variants.txt").write_text("737-700\n737-800\nF/A-18\n")
    (data / "families.txt").write_text("Boeing 737\nF/A-18\n")
    (data / "manufacturers.txt").write_text("Boeing\n")
    levels = {
        "variant": ["737-700", "737-800", "F/A-18"],
        "family": ["Boeing 737", "Boeing 737", "F/A-18"],
        "manufacturer": ["Boeing"] * 3,
    }
    for start, split in enumerate(("train", "val", "test")):
        for level, names in levels.items():
            rows = [f"{1000 * start + 10 * i + k:07d} {name}" for i, name in enumerate(names) for k in range(2)]
            (data / f"images_{level}_{split}.txt").write_text("\n".join(rows[::-1]) + "\n")
        for number in (1000 * start + 10 * i + k for i in range(3) for k in range(2)):
            write(data / "images" / f"{number:07d}.jpg", number)
    return data


def tree(root: Path, names: dict[str, str], classes: tuple[str, ...], suffix: str, count: int = 3) -> None:
    """Write `count` images a class in each split's folder; number = 1000 * split + 100 * label + place."""
    for start, folder in enumerate(names.values()):
        for label, name in enumerate(classes):
            for i in range(count):
                number = 1000 * start + 100 * label + i
                write(root / folder / name / f"{number:05d}{suffix}", number)
