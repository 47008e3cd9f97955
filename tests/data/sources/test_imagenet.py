import shutil
from pathlib import Path

import pytest

from dinodiet.data.dataset import open_dataset
from dinodiet.data.sources.imagenet import imagenet
from dinodiet.errors import UserError
from tests.data import layouts

WNIDS = ("n01440764", "n01443537")
NAMES = {"train": "train", "val": "val"}


@pytest.mark.parametrize("below", ["", "ILSVRC/Data/CLS-LOC"])
def test_counts_labels_and_pixels(tmp_path: Path, below: str) -> None:
    layouts.tree(tmp_path / below, NAMES, WNIDS, ".JPEG", count=10)
    source = imagenet(root=str(tmp_path), published={"classes": 2, "train": 20, "test": 20})
    found = layouts.splits(source)
    assert found["train"] == ([*range(10), *range(100, 110)], [0] * 10 + [1] * 10)
    assert found["test"] == ([*range(1000, 1010), *range(1100, 1110)], [0] * 10 + [1] * 10)
    data = open_dataset(source, val_fraction=0.1)
    assert {"train" in file for file in layouts.files(data.val)} == {True}
    assert len(layouts.files(data.train) | layouts.files(data.val) | layouts.files(data.test)) == 40


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/train not found; get ILSVRC2012"):
        imagenet(root=str(tmp_path))
    layouts.tree(tmp_path, NAMES, WNIDS, ".JPEG")
    with pytest.raises(UserError, match="train 6 instead of 1,281,167"):
        imagenet(root=str(tmp_path), published={"classes": 2, "train": 1281167})
    layouts.tree(tmp_path, {"val": "val"}, ("n09999999",), ".JPEG")
    with pytest.raises(UserError, match="'n09999999' is not in train"):
        imagenet(root=str(tmp_path))
    shutil.rmtree(tmp_path / "val")
    layouts.write(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG", 1)
    with pytest.raises(UserError, match=r"val holds no class folders"):
        imagenet(root=str(tmp_path))
