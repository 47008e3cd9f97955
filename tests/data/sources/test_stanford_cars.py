import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from dinodiet.config.build import declared
from dinodiet.data.sources.stanford_cars import stanford_cars
from dinodiet.errors import NotOnDisk, UserError
from dinodiet.io.assets import ASSETS
from tests.data import layouts, releases

PUBLISHED = {"classes": 2, "train": 20, "test": 20}


def of_kaggle(root: Path) -> None:
    base = releases.cars(root)
    for folder in ("cars_train", "cars_test"):
        (base / folder).rename(base / "images")
        (base / folder).mkdir()
        (base / "images").rename(base / folder / folder)
    (base / "car_devkit").mkdir()
    (base / "devkit").rename(base / "car_devkit" / "devkit")
    file = "cars_test_annos_withlabels.mat"
    shutil.move(base / file, base / "car_devkit" / "devkit" / "cars_test_annos_withlabels (1).mat")
    (base / "cars_annos.mat").write_bytes(b"of the images in car_ims, which are not there")


@pytest.mark.parametrize("write", [releases.cars, releases.whole_cars, of_kaggle])
def test_counts_labels_and_pixels(write: Callable[[Path], object], tmp_path: Path) -> None:
    write(tmp_path)
    source = stanford_cars(root=str(tmp_path), published=PUBLISHED)
    assert source.classes == tuple(releases.MAKES)
    assert layouts.splits(source) == {
        split: ([number for number, _ in releases.places(start)], [0, 1] * 10)
        for start, split in enumerate(("train", "test"))
    }


def test_what_is_got_by_hand_is_named(tmp_path: Path) -> None:
    node = {"_target_": "dinodiet.data.sources.stanford_cars.stanford_cars", "root": str(tmp_path)}
    assets = [asset for tell in declared(node, "source", ASSETS) for asset in tell()]
    for asset, file in zip(
        assets, ("cars_train.tgz", "cars_test.tgz", "car_devkit.tgz", "cars_test_annos"), strict=True
    ):
        assert asset.get is not None
        with pytest.raises(NotOnDisk, match=rf"{asset.place} not found; get {file}.* it in {tmp_path}.*a copy of") as e:
            asset.get()
        assert "download=true" not in str(e.value)
    releases.cars(tmp_path)
    assert all(asset.find() for asset in assets)


def test_wrong_lists_are_named(tmp_path: Path) -> None:
    base = releases.cars(tmp_path)
    path = base / "cars_test_annos_withlabels.mat"
    for row, fault in (
        ({"fname": "00001.jpg"}, "class"),
        ({"class": np.uint8(3), "fname": "00001.jpg"}, "class 3 of 2"),
        ({"class": np.uint8(1), "fname": np.uint8(1)}, r"\[1\] found where a text"),
    ):
        releases.matlab(path, annotations=[row, row])
        with pytest.raises(UserError, match=rf"withlabels.mat: it is broken \(.*{fault}.*\); get cars_train") as caught:
            stanford_cars(root=str(tmp_path))
        assert "\n" not in str(caught.value)
    releases.matlab(path, annotations=np.arange(3))
    with pytest.raises(UserError, match=r"withlabels.mat: it is broken"):
        stanford_cars(root=str(tmp_path))
