import gzip
import hashlib
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray

from dinodiet.data.dataset import open_dataset
from dinodiet.data.images import TensorImages, fetch
from dinodiet.data.sources.torchvision import open_class, torchvision_set
from dinodiet.errors import UserError
from tests.payload import Payload, has_run
from tests.web import published

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")  # the Debian package dataset-fashion-mnist
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def random_bytes(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def idx(array: NDArray[np.uint8]) -> bytes:
    """Return an array in the format of the MNIST files."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


def mnist_files() -> dict[str, bytes]:
    labels = (np.arange(30) % 10).astype(np.uint8)
    arrays = (random_bytes(30, 28, 28), labels, random_bytes(10, 28, 28), labels[:10])
    return {name: idx(array) for name, array in zip(NAMES, arrays, strict=True)}


def write_mnist(root: Path, name: str = "MNIST", pack: bool = False) -> Path:
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for file, content in mnist_files().items():
        if pack:
            (folder / f"{file}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / file).write_bytes(content)
    return folder


def cifar_files(coarse: bool) -> dict[str, bytes]:
    """Return the files of CIFAR-10, or of CIFAR-100 (`coarse`), with four images each."""

    def batch(seed: int) -> bytes:
        data = np.random.default_rng(seed).integers(0, 256, (4, 3072), dtype=np.uint8)
        return pickle.dumps({"data": data, "fine_labels" if coarse else "labels": [0, 1, 2, seed]})

    names = ["train", "test"] if coarse else [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    classes = [f"class {i}" for i in range(100 if coarse else 10)]
    meta = {"fine_label_names": classes} if coarse else {"label_names": classes}
    files = {name: batch(seed) for seed, name in enumerate(names)}
    return {**files, "meta" if coarse else "batches.meta": pickle.dumps(meta)}


def small_cifar(parent: Any, files: dict[str, bytes]) -> Any:
    """Return torchvision's class with the checksums of small files."""
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}

    class Small(parent):  # type: ignore[misc]
        train_list = [[name, md5[name]] for name, _ in parent.train_list]  # noqa: RUF012
        test_list = [[name, md5[name]] for name, _ in parent.test_list]  # noqa: RUF012
        meta = {**parent.meta, "md5": md5[parent.meta["filename"]]}  # noqa: RUF012

    return Small


def write_cifar(root: Path, coarse: bool = False) -> Any:
    parent = torchvision.datasets.CIFAR100 if coarse else torchvision.datasets.CIFAR10
    files = cifar_files(coarse)
    (root / parent.base_folder).mkdir()
    for name, content in files.items():
        (root / parent.base_folder / name).write_bytes(content)
    return small_cifar(parent, files)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
@pytest.mark.parametrize("pack", [False, True])
def test_idx_files_packed_or_not(tmp_path: Path, name: Any, pack: bool) -> None:
    write_mnist(tmp_path, name, pack)
    source = torchvision_set(dataset=name, root=str(tmp_path), download=False)
    assert (source.name, source.num_labels, source.val, source.multilabel) == (name, 10, None, False)
    assert (len(source.train), len(source.test)) == (30, 10)
    assert torch.equal(source.train[7], torch.from_numpy(random_bytes(30, 28, 28)[7]).expand(3, -1, -1))
    assert source.train.labels is not None
    assert source.train.labels.tolist() == [i % 10 for i in range(30)]


@pytest.mark.parametrize("coarse", [False, True])
def test_cifar_pixels_and_labels(tmp_path: Path, coarse: bool) -> None:
    cls = write_cifar(tmp_path, coarse)
    source = open_class(cls, tmp_path, download=False)
    batches = [pickle.loads(content) for content in cifar_files(coarse).values()]
    expected = np.concatenate([batch["data"] for batch in batches[:-2]]).reshape(-1, 3, 32, 32)
    assert source.num_labels == (100 if coarse else 10)
    assert torch.equal(fetch(source.train, range(len(source.train))), torch.from_numpy(expected))  # type: ignore[arg-type]
    assert torch.equal(source.test[3], torch.from_numpy(batches[-2]["data"][3]).view(3, 32, 32))
    assert source.test.labels is not None
    assert source.test.labels.tolist() == [0, 1, 2, len(batches) - 2]


def test_cifar_pixels_are_not_copied(tmp_path: Path) -> None:
    train = open_class(write_cifar(tmp_path), tmp_path, download=False).train
    assert isinstance(train, TensorImages)
    assert train.images.is_contiguous()


def test_download_puts_the_files_in_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, root = tmp_path / "shelf", tmp_path / "root"
    shelf.mkdir()
    small = write_cifar(shelf)
    archive = shelf / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(shelf / small.base_folder, small.base_folder)
    small.tgz_md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    with published(shelf, monkeypatch) as address:
        small.url = f"{address}{archive.name}"
        assert len(open_class(small, root, download=True).train) == 20
    assert [path.name for path in root.iterdir()] == [small.base_folder]
    before = root.stat().st_mtime_ns
    assert len(open_class(small, root, download=True).train) == 20  # the server is gone
    assert root.stat().st_mtime_ns == before  # nothing was written


def test_mnist_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, root = tmp_path / "shelf", tmp_path / "root"
    folder = write_mnist(shelf, pack=True)

    class MNIST(torchvision.datasets.MNIST):  # type: ignore[misc]
        resources = [  # noqa: RUF012
            (f"{name}.gz", hashlib.md5((folder / f"{name}.gz").read_bytes()).hexdigest()) for name in NAMES
        ]

    with published(folder, monkeypatch) as address:
        MNIST.mirrors = [address]
        assert len(open_class(MNIST, root, download=True).test) == 10
    assert sorted(path.name for path in (root / "MNIST" / "raw").iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"])
def test_missing_file_says_which_where_and_how(tmp_path: Path, name: Any) -> None:
    with pytest.raises(UserError, match=f"{name}: {tmp_path}/.* not found; get http.*download=true"):
        torchvision_set(dataset=name, root=str(tmp_path), download=False)


def test_failed_download_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    class MNIST(torchvision.datasets.MNIST):  # type: ignore[misc]
        mirrors = [f"{tmp_path.as_uri()}/nothing/", f"{tmp_path.as_uri()}/here/"]  # noqa: RUF012

    root = tmp_path / "data"
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte not found, .*download failed") as caught:
        open_class(MNIST, root, download=True)
    assert "\n" not in str(caught.value)
    assert f"get {tmp_path.as_uri()}/nothing/train-images-idx3-ubyte.gz" in str(caught.value)
    assert not root.exists()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [_cut, _empty])
@pytest.mark.parametrize("name", NAMES[::2])
def test_broken_idx_file_is_named(tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    folder = write_mnist(tmp_path)
    damage(folder / name)
    with pytest.raises(UserError, match=f"MNIST: {folder / name} is broken"):
        torchvision_set(dataset="MNIST", root=str(tmp_path), download=True)


def test_images_and_labels_that_disagree(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path)
    (folder / NAMES[1]).write_bytes(idx(np.zeros(29, np.uint8)))
    with pytest.raises(UserError, match=f"MNIST: the files in {folder} do not belong together .*one label"):
        torchvision_set(dataset="MNIST", root=str(tmp_path))


def test_broken_packed_file_is_named(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path, pack=True)
    _cut(folder / f"{NAMES[2]}.gz")
    with pytest.raises(UserError, match=rf"{folder / NAMES[2]}.gz cannot be unpacked"):
        torchvision_set(dataset="MNIST", root=str(tmp_path), download=False)
    assert not (folder / NAMES[2]).exists()


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_broken_cifar_file_is_named(tmp_path: Path, name: str) -> None:
    cls = write_cifar(tmp_path)
    path = tmp_path / cls.base_folder / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"{path} is broken"):
        open_class(cls, tmp_path, download=True)


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_code_in_a_cifar_file_does_not_run(tmp_path: Path, name: str) -> None:
    cls = write_cifar(tmp_path)
    (tmp_path / cls.base_folder / name).write_bytes(pickle.dumps({"data": Payload(tmp_path)}))
    with pytest.raises(UserError, match=f"{name} is broken"):
        open_class(cls, tmp_path, download=True)
    assert not has_run(tmp_path)


def test_code_in_files_of_an_old_layout_does_not_run(tmp_path: Path) -> None:
    folder = write_mnist(tmp_path).parent / "processed"
    folder.mkdir()
    for name in ("training.pt", "test.pt"):
        torch.save((Payload(tmp_path), Payload(tmp_path)), folder / name)
    assert len(torchvision_set(dataset="MNIST", root=str(tmp_path), download=False).train) == 30
    assert not has_run(tmp_path)


def test_a_packed_file_that_grows_beyond_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dinodiet.io.unpack.SMALL", 2**20)
    folder = write_mnist(tmp_path, pack=True)
    (folder / f"{NAMES[0]}.gz").write_bytes(gzip.compress(bytes(2**22)))
    with pytest.raises(UserError, match=rf"{NAMES[0]}.gz cannot be unpacked \(it would make"):
        torchvision_set(dataset="MNIST", root=str(tmp_path), download=False)
    assert not (folder / NAMES[0]).exists()


def test_the_next_mirror_is_asked_and_what_it_has_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_mnist(tmp_path / "shelf", pack=True)
    sums = {name: hashlib.md5((folder / f"{name}.gz").read_bytes()).hexdigest() for name in NAMES}

    class MNIST(torchvision.datasets.MNIST):  # type: ignore[misc]
        resources = [(f"{name}.gz", md5) for name, md5 in sums.items()]  # noqa: RUF012

    with published(tmp_path / "shelf", monkeypatch) as address:
        MNIST.mirrors = [f"{address}nothing/", f"{address}MNIST/raw/"]
        assert len(open_class(MNIST, tmp_path / "one", download=True).test) == 10
        (folder / f"{NAMES[1]}.gz").write_bytes(gzip.compress(idx(np.zeros(30, np.uint8))))
        with pytest.raises(UserError, match=f"download failed .*MD5 .*expected is {sums[NAMES[1]]}"):
            open_class(MNIST, tmp_path / "two", download=True)
    assert not (tmp_path / "two").exists()


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_real_fashion_mnist(tmp_path: Path) -> None:
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for path in FASHION_MNIST.glob("*.gz"):
        (folder / path.name).symlink_to(path)
    data = open_dataset(torchvision_set(dataset="FashionMNIST", root=str(tmp_path)), limit=1000)
    assert [len(split) for split in (data.pretext, data.train, data.val, data.test)] == [1000, 1000, 6000, 10000]
    assert data.val.labels is not None
    assert data.val.labels.bincount().tolist() == [600] * 10
    assert data.spec.native_size == 28
    mean = float(fetch(data.test, range(10000)).float().mean())  # type: ignore[union-attr]
    assert mean / 255 == pytest.approx(0.2868, abs=1e-4)  # the published test set's mean
