"""How long it takes to open a dataset: image files the first time (decoded, written) and later (mapped), and arrays.

10,000 images; DINODIET_BENCH_IMAGES=50000 opens as many.
"""

import io
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dinodiet.data.cache.decoded import keep_decoded
from dinodiet.data.dataset import open_dataset
from dinodiet.data.images import fetch
from dinodiet.data.sources.folder import image_folder
from dinodiet.data.sources.medmnist import medmnist_set
from dinodiet.data.sources.torchvision import open_class
from dinodiet.types import Data
from tests.bench.rows import Note

pytestmark = [pytest.mark.bench, pytest.mark.usefixtures("one_thread")]

COUNT, SIDE, CLASSES, DISTINCT = int(os.environ.get("DINODIET_BENCH_IMAGES", "10000")), 32, 10, 200


def pixels(count: int) -> NDArray[np.uint8]:
    """Return smooth noise, which compresses as photographs do."""
    coarse = np.random.default_rng(0).integers(0, 256, (count, 9, 9, 3), dtype=np.uint8)
    return np.stack(
        [np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for image in coarse]
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write COUNT small JPEG files for train and 100 for test."""
    root = tmp_path_factory.mktemp("images")
    encoded = []
    for image in pixels(DISTINCT):
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, "jpeg", quality=90)
        encoded.append(buffer.getvalue())
    for split, count in (("train", COUNT), ("test", 100)):
        for label in range(CLASSES):
            (root / split / f"class{label}").mkdir(parents=True)
        for i in range(count):
            path = f"{root}/{split}/class{i % CLASSES}/{i:05d}.jpg"
            with open(path, "wb") as file:  # noqa: PTH123 - many
                file.write(encoded[i % DISTINCT] + bytes(i % 4096))  # of all lengths, as photographs are
    return root


def timed(note: Note, what: str, action: Callable[[], Data]) -> tuple[Data, float]:
    begun, worked = time.perf_counter(), time.process_time()
    data = action()
    cpu = time.process_time() - worked
    note(f"{COUNT:,} images of {SIDE} px, {what}", f"{cpu:.2f} CPU seconds")
    print(f"  {what}: {time.perf_counter() - begun:.2f} s, {cpu:.2f} CPU seconds")
    return data, cpu


def read_all(data: Data) -> int:
    return sum(len(fetch(data.train, chunk)) for chunk in torch.arange(len(data.train)).split(256))


def test_image_files(images: Path, tmp_path: Path, note: Note) -> None:
    def opened(limit_gib: float) -> Data:
        return keep_decoded(open_dataset(image_folder(root=str(images))), tmp_path, limit_gib)

    print(f"\n{COUNT:,} JPEG files of {SIDE} px, one thread:")
    plain, listed = timed(note, "opened, to be decoded at every use", lambda: opened(0))
    cold, first = timed(note, "opened the first time: decoded and written", lambda: opened(4))
    warm, later = timed(note, "opened later: mapped", lambda: opened(4))
    _, streamed = timed(note, "an epoch over the files", lambda: (read_all(plain), plain)[1])
    _, mapped = timed(note, "an epoch over the mapped pixels", lambda: (read_all(warm), warm)[1])
    print(f"  file of pixels: {sum(path.stat().st_size for path in tmp_path.glob('*.pixels')) / 2**20:.0f} MiB")
    for position in range(0, len(plain.train), 997):
        assert torch.equal(warm.train[position], plain.train[position])
        assert torch.equal(cold.train[position], plain.train[position])
    assert later < first / 2
    assert later < listed + 1 + COUNT * 50e-6  # listing and hashing names is most of it
    assert mapped < streamed / 2


def test_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, note: Note) -> None:
    every = np.resize(pixels(DISTINCT), (COUNT, SIDE, SIDE, 3))
    labels = (np.arange(COUNT) % 9).astype(np.uint8)[:, None]
    parts = {"train": slice(None), "val": slice(100), "test": slice(100)}
    arrays: dict[str, Any] = {f"{split}_images": every[:, :28, :28][rows] for split, rows in parts.items()}
    arrays |= {f"{split}_labels": labels[rows] for split, rows in parts.items()}
    np.savez_compressed(tmp_path / "pathmnist.npz", **arrays)
    print(f"\n{COUNT:,} images in arrays, one thread:")

    def medmnist() -> Data:
        return open_dataset(medmnist_set(name="pathmnist", root=str(tmp_path), published=None))

    _, first = timed(note, "MedMNIST's .npz, the first time", medmnist)
    data, later = timed(note, "MedMNIST's .npz, later", medmnist)
    assert len(data.pretext) == COUNT
    assert later < first + 1

    write_cifar(tmp_path / "cifar-10-batches-py", every)
    import torchvision

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    data, seconds = timed(
        note, "CIFAR-10's batches", lambda: open_dataset(open_class(torchvision.datasets.CIFAR10, tmp_path, False))
    )
    assert data.spec.native_size == SIDE
    assert seconds < 1 + COUNT * 200e-6


def write_cifar(folder: Path, images: NDArray[np.uint8]) -> None:
    folder.mkdir()
    names = [f"data_batch_{i}" for i in range(1, 6)]
    parts = [*np.array_split(images.transpose(0, 3, 1, 2).reshape(len(images), -1), 5)]
    for name, part in zip([*names, "test_batch"], [*parts, parts[0][:100]], strict=True):
        content = {"data": part, "labels": (np.arange(len(part)) % CLASSES).tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(CLASSES)]}))
