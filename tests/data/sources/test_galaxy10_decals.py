import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dinodiet.data.dataset import open_dataset
from dinodiet.data.images import MappedImages, Subset
from dinodiet.data.sources import galaxy10_decals as module
from dinodiet.data.sources.galaxy10_decals import galaxy10_decals
from dinodiet.data.splits import stratified_split
from dinodiet.errors import UserError

h5py = pytest.importorskip("h5py")
COUNT = 200
LABELS = (np.arange(COUNT) % 10).astype(np.uint8)


def pixels() -> NDArray[np.uint8]:
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
    images[:, 0, 0, 0] = np.arange(COUNT)
    return images


def write(root: Path, images: Any = None, labels: Any = LABELS, **options: Any) -> Path:
    """Write the published layout: compressed images, labels, and columns that nobody asks for."""
    path = root / "Galaxy10_DECals.h5"
    root.mkdir(exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=pixels() if images is None else images, **options)
        file.create_dataset("ans", data=labels)
        file.create_dataset("redshift", data=np.zeros(len(labels)))
    return path


@pytest.mark.parametrize("options", [{}, {"compression": "gzip", "chunks": (7, 8, 8, 3)}])
def test_counts_labels_and_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    monkeypatch.setattr(module, "BLOCK", 64)
    write(tmp_path, **options)
    data = open_dataset(
        galaxy10_decals(root=str(tmp_path), published={"classes": 10, "all": COUNT}), val_fraction=1 / 9
    )
    assert [len(split) for split in (data.train, data.val, data.test)] == [160, 20, 20]
    assert data.spec.native_size == 8
    seen: list[int] = []
    for split in (data.train, data.val, data.test):
        assert split.labels is not None
        assert len(set(split.labels.bincount().tolist())) == 1  # stratified
        for position in range(len(split)):
            image = split[position]
            number = int(image[0, 0, 0])
            assert torch.equal(image, torch.from_numpy(pixels()[number]).permute(2, 0, 1))
            assert split.labels[position] == LABELS[number]
            seen.append(number)
    assert sorted(seen) == list(range(COUNT))  # never overlapping, together all


def test_the_published_set_splits_as_in_its_file() -> None:
    counts = [1081, 1853, 2645, 2027, 334, 2043, 1829, 2628, 1423, 1873]
    labels = torch.arange(10).repeat_interleave(torch.tensor(counts))
    rest, test = stratified_split(labels, 0.1, 0)
    train, val = stratified_split(labels[rest], 0.11114, 0)
    assert (len(labels), len(train), len(val), len(test)) == (17736, 14188, 1774, 1774)


def test_unpacked_once_and_mapped(tmp_path: Path) -> None:
    path = write(tmp_path)
    first = galaxy10_decals(root=str(tmp_path))
    assert isinstance(first.train, Subset)
    assert isinstance(first.train.images, MappedImages)
    unpacked = tmp_path / "Galaxy10_DECals" / "images.npy"
    before = unpacked.stat().st_mtime_ns
    again = galaxy10_decals(root=str(tmp_path))
    assert unpacked.stat().st_mtime_ns == before
    assert again.test.fingerprint() == first.test.fingerprint()
    write(tmp_path, 255 - pixels())
    later = unpacked.stat().st_mtime + 10
    os.utime(path, (later, later))
    assert galaxy10_decals(root=str(tmp_path)).test[0][1, 0, 0] == 255 - first.test[0][1, 0, 0]
    assert os.listdir(unpacked.parent) == ["images.npy"]  # noqa: PTH208


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Galaxy10_DECals.h5 not found; get https.*zenodo.*download=true"):
        galaxy10_decals(root=str(tmp_path), download=False)
    path = write(tmp_path)
    with pytest.raises(UserError, match=rf"{path} is not the published set .*200 instead of 17,736"):
        galaxy10_decals(root=str(tmp_path), published={"classes": 10, "all": 17736})
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=rf"{path} is broken .*delete it") as caught:
        galaxy10_decals(root=str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "labels", "reason"),
    [
        (np.zeros((4, 8, 8), np.uint8), np.zeros(4), r"images are uint8 \(4, 8, 8\)"),
        (np.zeros((4, 8, 8, 3), np.float32), np.zeros(4), r"images are float32"),
        (np.zeros((4, 8, 8, 3), np.uint8), np.zeros(3), r"labels \(3,\)"),
    ],
)
def test_other_arrays_are_refused(tmp_path: Path, images: Any, labels: Any, reason: str) -> None:
    write(tmp_path, images, labels)
    with pytest.raises(UserError, match=reason):
        galaxy10_decals(root=str(tmp_path))


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "Galaxy10_DECals").touch()
    with pytest.raises(UserError, match=r"images.npy .37.5 KiB. cannot be written"):
        galaxy10_decals(root=str(tmp_path))


def test_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match=r"pip install 'dinodiet\[galaxy10\]'"):
        galaxy10_decals(root=str(tmp_path))


def test_images_that_are_declared_and_not_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.io.unpack.SMALL", 2**20)
    with h5py.File(tmp_path / "Galaxy10_DECals.h5", "w") as file:  # without a byte of pixels
        file.create_dataset("images", shape=(10**9, 256, 256, 3), dtype=np.uint8, chunks=(1, 256, 256, 3))
        file.create_dataset("ans", shape=(10**9,), dtype=np.uint8, chunks=(1000,))
    with pytest.raises(UserError, match=r"is broken \(images would make"):
        galaxy10_decals(root=str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["Galaxy10_DECals.h5"]
