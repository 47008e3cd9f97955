"""What every file of conf/dataset keeps to, built as a run builds it, on small sets in the published layouts."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from omegaconf import OmegaConf

from dinodiet.config.build import build, declared
from dinodiet.config.precheck import signature_of
from dinodiet.data.images import FileImages, Subset
from dinodiet.data.loader import TrainLoader
from dinodiet.errors import NotOnDisk, UserError
from dinodiet.io.assets import ASSETS
from dinodiet.sweep.planning.estimate import open_data
from dinodiet.types import Data, Images
from tests.data import layouts, releases
from tests.data.sources import test_medmnist, test_torchvision
from tests.places import CONF

DATASETS = CONF / "dataset"
ALL = sorted(path.stem for path in DATASETS.glob("[!_]*.yaml"))
TWO = ("ant", "bee")


def galaxies(root: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(root / "Galaxy10_DECals.h5", "w") as file:
        file["images"] = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1).expand(-1, 4, 4, 3).numpy()
        file["ans"] = torch.arange(100).numpy() % 10


def table(root: Path) -> None:
    pytest.importorskip("datasets")
    from tests.data.sources import test_huggingface

    for split in ("train", "validation", "test"):
        test_huggingface.parquet(root / "set" / f"{split}-0.parquet", test_huggingface.rows(0, 9))


def tree(folder: str, suffix: str, **splits: str) -> Callable[[Path], None]:
    return lambda root: layouts.tree(root / folder, splits, TWO, suffix, count=10)


LAYOUTS: dict[str, Callable[[Path], Any]] = {  # what writes the set
    "food101": layouts.food101,
    "fgvc_aircraft": layouts.aircraft,
    "eurosat": releases.eurosat,
    "dtd": releases.dtd,
    "cub200": releases.birds,
    "oxford_pets": releases.pets,
    "flowers102": releases.flowers,
    "stanford_dogs": releases.dogs,
    "stanford_cars": releases.cars,
    "aid": releases.scenes,
    "resisc45": releases.resisc,
    "plant_village": releases.village,
    "flavia": releases.leaves,
    "jena_flowers30": releases.jena,
    "ip102": releases.insects,
    "galaxy10_decals": galaxies,
    "plantnet300k": tree("plantnet_300K", ".jpg", train="images_train", val="images_val", test="images_test"),
    "imagenet": tree("imagenet", ".JPEG", train="train", val="val"),
    "crop14_balance": tree("crop14_balance", ".jpg", train="train", val="validation"),
    "folder": tree("own", ".png", train="train"),
    "huggingface": table,
    "mnist": lambda root: test_torchvision.write_mnist(root, "MNIST"),
    "fashion_mnist": lambda root: test_torchvision.write_mnist(root, "FashionMNIST"),
    "cifar10": lambda root: test_torchvision.write_cifar(root),
    "cifar100": lambda root: test_torchvision.write_cifar(root, True),
    "digits": lambda root: None,
}
PLACES = {"folder": {"root": "own"}, "huggingface": {"path": "set"}}  # that the file leaves open
PUBLISHED = [name for name in ALL if name not in ("digits", "folder", "huggingface")]


def node(name: str, root: Path, **source: Any) -> dict[str, Any]:
    """Return the content of a dataset's file as Hydra would compose it, with other values in its source."""
    files = [DATASETS / "_base.yaml", DATASETS / f"{name}.yaml"]
    if "_medmnist" in files[1].read_text():
        files.insert(1, DATASETS / "_medmnist.yaml")
    places = {key: str(root / place) for key, place in PLACES.get(name, {}).items()}
    own = {"data_dir": str(root), "source": {**places}}
    merged = OmegaConf.merge(*map(OmegaConf.load, files), own)
    composed: Any = OmegaConf.to_container(merged, resolve=True)
    del composed["data_dir"], composed["defaults"]
    return {**composed, "source": {**composed["source"], **source}}


def small(name: str, root: Path, monkeypatch: pytest.MonkeyPatch, **source: Any) -> dict[str, Any]:
    """Write a small set and return its node."""
    written = LAYOUTS[name](root) if name in LAYOUTS else test_medmnist.write(root, name)
    if isinstance(written, type):  # with digests of its own
        monkeypatch.setattr(torchvision.datasets, name.upper(), written)
    return node(name, root, **source)


def places_of(images: Images) -> list[tuple[object, int] | str]:
    """Return where the images of a split are: files, or positions in what holds them."""
    if isinstance(images, Subset):
        inside = places_of(images.images)
        return [inside[position] for position in images.positions.tolist()]
    if isinstance(images, FileImages):
        return list(map(str, images.paths))
    return [(id(images), position) for position in range(len(images))]


@pytest.mark.parametrize("name", ALL)
def test_a_set_opens_and_its_batches_are_its_images(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = {"published": None} if name in PUBLISHED else {}
    chosen = {**small(name, tmp_path, monkeypatch, **own), "val_fraction": 0.34}
    assert all(asset.get is None or asset.find() for tell in declared(chosen, "dataset", ASSETS) for asset in tell())
    data: Data = build(chosen, "dataset")()
    spec = data.spec
    assert spec.labelled and spec.num_images == len(data.pretext) and spec.num_labels > 1
    assert spec.classes is not None and len(spec.classes) == spec.num_labels and all(spec.classes)
    assert not any(len(split) == 0 for split in (data.train, data.val, data.test))
    places = [place for split in (data.train, data.val, data.test) for place in places_of(split)]
    assert len(set(places)) == len(places)  # no image is in two splits, or twice in one
    batch = next(TrainLoader(data.pretext, 4, seed=0).batches(0))
    assert batch.label is not None and data.pretext.labels is not None
    for image, label, index in zip(batch.images, batch.label, batch.index, strict=True):
        assert image.dtype == torch.uint8 and image.ndim == 3 and len(image) == 3
        assert spec.native_size is None or image.shape == (3, spec.native_size, spec.native_size)
        assert torch.equal(image, data.pretext[int(index)])
        assert torch.equal(label, data.pretext.labels[index])
    again: Data = build(chosen, "dataset")()
    for split in ("pretext", "train", "val", "test"):
        assert getattr(again, split).fingerprint() == getattr(data, split).fingerprint()


@pytest.mark.parametrize("name", ["galaxy10_decals", "pathmnist", "chestmnist", "food101", "cifar10"])
def test_planning_sees_the_same_set_and_writes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = small(name, tmp_path, monkeypatch, published=None)
    before = sorted(tmp_path.rglob("*"))
    opened = open_data(chosen)
    assert (opened.counted, opened.note) == (True, None)
    assert sorted(tmp_path.rglob("*")) == before
    data: Data = build(chosen, "dataset")()
    assert opened.data.spec == data.spec
    for split in ("pretext", "train", "val", "test"):
        assert torch.equal(getattr(opened.data, split).labels, getattr(data, split).labels)


@pytest.mark.parametrize("name", PUBLISHED)
def test_another_set_than_the_published_one_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = small(name, tmp_path, monkeypatch)
    for opening in (lambda: build(chosen, "dataset"), lambda: open_data(chosen)):
        with pytest.raises(UserError, match=r"^dataset.source: .* is not the published set") as caught:
            opening()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [*PUBLISHED, "huggingface"])
def test_the_key_that_is_offered_for_a_subset_opens_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = small(name, tmp_path, monkeypatch)
    if chosen["source"]["published"] is None:
        chosen["source"]["published"] = {"train": 1}
    with pytest.raises(UserError) as caught:
        build(chosen, "dataset")
    (offered,) = re.findall(r"or set (\w+)=null for a subset", str(caught.value))
    found = signature_of(chosen["source"]["_target_"])
    assert found is not None and offered in found[0]
    chosen["source"][offered] = None
    data: Data = build({**chosen, "val_fraction": 0.34}, "dataset")()
    assert len(data.train)


@pytest.mark.parametrize("name", [name for name in ALL if name != "digits"])
def test_an_absent_set_says_where_it_was_looked_for_and_how_to_get_it(name: str, tmp_path: Path) -> None:
    if name == "huggingface":
        pytest.importorskip("datasets")
    chosen = node(name, tmp_path)
    if "download" in chosen["source"]:
        chosen["source"]["download"] = False
    with pytest.raises(NotOnDisk, match=rf"^dataset.source.*{tmp_path}.*; (get|give) ") as caught:
        build(chosen, "dataset")()
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "crop14_balance"])  # its size is not published
def test_planning_knows_the_published_counts(name: str, tmp_path: Path) -> None:
    opened = open_data(node(name, tmp_path))
    assert opened.counted and opened.note == "data not found, sizes as published"
    published = node(name, tmp_path)["source"]["published"]
    level = {"fgvc_aircraft": 100}  # whose classes follow from another key
    assert opened.data.spec.num_labels == published.get("classes", level.get(name))
    held_out = len(opened.data.val) if "val" not in published else 0
    if "train" in published:
        assert len(opened.data.train) + held_out == published["train"]
        assert len(opened.data.test) == published["test"]
    assert not list(tmp_path.iterdir())
