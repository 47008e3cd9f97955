import hashlib
import pickle
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from medmnist import INFO
from omegaconf import OmegaConf

from dinodiet.data.dataset import open_dataset
from dinodiet.data.images import MappedImages, fetch
from dinodiet.data.sources import medmnist as medmnist_sets
from dinodiet.data.sources.medmnist import medmnist_set
from dinodiet.errors import UserError
from tests.places import CONF
from tests.web import published

COUNTS = {"train": 40, "val": 12, "test": 20}


def arrays(name: str, size: int = 28) -> dict[str, np.ndarray[Any, Any]]:
    """Return a small set in the layout of the published files."""
    info, rng = INFO[name], np.random.default_rng(0)
    shape = (size, size, 3) if info["n_channels"] == 3 else (size, size)
    found: dict[str, np.ndarray[Any, Any]] = {}
    for split, count in COUNTS.items():
        found[f"{split}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        if name == "chestmnist":
            found[f"{split}_labels"] = rng.integers(0, 2, (count, 14), dtype=np.uint8)
        else:
            found[f"{split}_labels"] = (np.arange(count) % len(info["label"])).astype(np.uint8)[:, None]
    return found


def write(root: Path, name: str, size: int = 28, **changes: Any) -> Path:
    path = root / (f"{name}.npz" if size == 28 else f"{name}_{size}.npz")
    np.savez_compressed(path, **{**arrays(name, size), **changes})
    return path


def open_small(root: Path, name: Any, **options: Any) -> Any:
    return medmnist_set(name=name, root=str(root), download=False, **options)


def test_all_twelve_sets_are_offered() -> None:
    assert set(typing.get_args(medmnist_sets.Name)) == {name for name in INFO if not name.endswith("3d")}


@pytest.mark.parametrize("name", typing.get_args(medmnist_sets.Name))
def test_every_set_opens(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    data = open_dataset(open_small(tmp_path, name), limit=30)
    stored = arrays(name)
    assert data.spec.num_labels == len(INFO[name]["label"])
    assert data.spec.multilabel == (name == "chestmnist")
    assert data.spec.native_size == 28
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 12, 20]
    expected = torch.from_numpy(stored["test_images"][5])
    expected = expected.permute(2, 0, 1) if expected.ndim == 3 else expected.expand(3, -1, -1)
    assert torch.equal(data.test[5], expected)
    assert data.test.labels is not None
    assert data.test.labels.tolist() == stored["test_labels"].squeeze().tolist()


@pytest.mark.parametrize("size", [64, 128, 224])
def test_larger_sizes_are_files_of_their_own(tmp_path: Path, size: Any) -> None:
    write(tmp_path, "breastmnist", size)
    assert open_small(tmp_path, "breastmnist", size=size).train[0].shape == (3, size, size)


class TestUnpacking:
    @pytest.fixture(autouse=True)
    def _small_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(medmnist_sets, "UNPACK_BYTES", 1000)

    @pytest.mark.parametrize("name", ["pathmnist", "octmnist"])
    def test_equals_images_in_memory(self, tmp_path: Path, name: str) -> None:
        write(tmp_path, name)
        mapped, held = open_small(tmp_path, name).train, open_small(tmp_path, name, unpack=False).train
        assert isinstance(mapped, MappedImages)
        assert not isinstance(held, MappedImages)
        assert torch.equal(fetch(mapped, range(40)), fetch(held, range(40)))  # type: ignore[arg-type]
        labels = arrays(name)["train_labels"].squeeze().tolist()
        for images in (mapped, held, pickle.loads(pickle.dumps(mapped))):
            assert images.labels is not None
            assert images.labels.tolist() == labels

    def test_is_done_once(self, tmp_path: Path) -> None:
        write(tmp_path, "pathmnist")
        open_small(tmp_path, "pathmnist")
        unpacked = tmp_path / "pathmnist" / "train_images.npy"
        before = [path.stat().st_mtime_ns for path in (unpacked, unpacked.parent)]
        open_small(tmp_path, "pathmnist")
        assert [path.stat().st_mtime_ns for path in (unpacked, unpacked.parent)] == before
        assert sorted(path.name for path in unpacked.parent.iterdir()) == [f"{s}_images.npy" for s in sorted(COUNTS)]

    def test_is_done_anew_for_a_new_file(self, tmp_path: Path) -> None:
        write(tmp_path, "pathmnist")
        open_small(tmp_path, "pathmnist")
        white = np.full((40, 28, 28, 3), 255, np.uint8)
        write(tmp_path, "pathmnist", train_images=white)
        assert open_small(tmp_path, "pathmnist").train[0].min() == 255

    def test_where_nothing_can_be_written(self, tmp_path: Path) -> None:
        write(tmp_path, "pathmnist")
        (tmp_path / "pathmnist").touch()  # a file where the folder would be
        with pytest.raises(UserError, match=r"train_images.npy .* cannot be written.*unpack=false"):
            open_small(tmp_path, "pathmnist")


class TestDownload:
    @pytest.fixture(autouse=True)
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        path = write(tmp_path, "bloodmnist", 64)
        md5 = hashlib.md5(path.read_bytes()).hexdigest()
        with published(tmp_path, monkeypatch) as address:
            entry = {"url_64": f"{address}{path.name}?download=1", "MD5_64": md5}
            monkeypatch.setitem(INFO, "bloodmnist", {**INFO["bloodmnist"], **entry})
            yield path

    def test_gets_a_missing_file(self, tmp_path: Path, file: Path) -> None:
        root = tmp_path / "root"
        assert len(medmnist_set(name="bloodmnist", root=str(root), size=64).train) == 40
        assert [path.name for path in root.iterdir()] == ["bloodmnist_64.npz"]
        file.unlink()
        assert len(medmnist_set(name="bloodmnist", root=str(root), size=64).train) == 40

    @pytest.mark.parametrize("failure", ["damaged", "unreachable"])
    def test_failure_is_one_line_and_leaves_nothing(self, tmp_path: Path, file: Path, failure: str) -> None:
        if failure == "damaged":
            file.write_bytes(file.read_bytes()[:-1])
        else:
            INFO["bloodmnist"]["url_64"] = "http://127.0.0.1:1/"  # where nobody listens
        root = tmp_path / "root"
        with pytest.raises(UserError, match=f"{root}/bloodmnist_64.npz not found, .*download failed") as caught:
            medmnist_set(name="bloodmnist", root=str(root), size=64)
        assert "\n" not in str(caught.value)
        assert not root.exists()


def test_missing_file_says_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/octmnist_128.npz not found; get https://zenodo"):
        open_small(tmp_path, "octmnist", size=128)


def test_other_counts_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "octmnist")
    with pytest.raises(UserError, match=rf"{path} is not the published set .*train 40 instead of 97,477"):
        open_small(tmp_path, "octmnist", published={"classes": 4, "train": 97477})


@pytest.mark.parametrize("name", typing.get_args(medmnist_sets.Name))
def test_the_counts_in_the_files_are_those_of_the_package(name: str) -> None:
    found: Any = OmegaConf.load(CONF / "dataset" / f"{name}.yaml")
    assert found.source.name == name
    assert found.source.published == {"classes": len(INFO[name]["label"]), **INFO[name]["n_samples"]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"val_images": np.zeros((12, 64, 64, 3), np.uint8)}, r"val images .*\(64, 64\)"),
        ({"val_images": np.zeros((12, 28, 28, 3), np.float32)}, "float32"),
        ({"test_labels": np.zeros((19, 1), np.uint8)}, "20 images and 19 labels"),
    ],
)
def test_file_with_other_content_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    path = write(tmp_path, "pathmnist", **changes)
    with pytest.raises(UserError, match=f"{path} is broken.*{reason}"):
        open_small(tmp_path, "pathmnist")


@pytest.mark.parametrize("keep", [0, 100, -1000])
def test_truncated_file_is_named_in_one_line(tmp_path: Path, keep: int) -> None:
    path = write(tmp_path, "pathmnist")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=f"{path} is broken") as caught:
        open_small(tmp_path, "pathmnist")
    assert "\n" not in str(caught.value)


def test_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, "pathmnist")
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path} is broken"):
        open_small(tmp_path, "pathmnist")


def test_array_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "pathmnist.npz"
    incomplete: dict[str, Any] = {key: value for key, value in arrays("pathmnist").items() if key != "val_images"}
    np.savez(path, **incomplete)
    with pytest.raises(UserError, match=r"broken.*val_images"):
        open_small(tmp_path, "pathmnist")
