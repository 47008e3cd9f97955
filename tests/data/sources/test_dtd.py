import shutil
from pathlib import Path

import pytest

from dinodiet.data.sources.dtd import dtd
from dinodiet.errors import UserError
from tests.data import layouts, releases

PUBLISHED = {"classes": 2, "train": 20, "val": 20, "test": 20}


@pytest.mark.parametrize("partition", [1, 10])
def test_counts_labels_and_pixels(partition: int, tmp_path: Path) -> None:
    releases.dtd(tmp_path, partition)
    source = dtd(root=str(tmp_path), partition=partition, download=False, published=PUBLISHED)
    assert source.classes == releases.TEXTURES
    numbers = [*range(10), *range(100, 110)]
    assert layouts.splits(source) == {
        split: ([start + number for number in numbers], [0] * 10 + [1] * 10)
        for start, split in ((0, "train"), (1000, "val"), (2000, "test"))
    }


def test_the_folder_of_torchvision_is_taken(tmp_path: Path) -> None:
    base = releases.dtd(tmp_path / "dtd")
    assert len(dtd(root=str(tmp_path), download=False, published=PUBLISHED).test) == 20
    shutil.rmtree(base / "images")
    with pytest.raises(UserError, match=r"dtd/dtd/images not found; get http.* and unpack it in"):
        dtd(root=str(tmp_path))


def test_wrong_lists_are_named(tmp_path: Path) -> None:
    base = releases.dtd(tmp_path)
    with pytest.raises(UserError, match=r"labels/train2.txt not found; get http"):
        dtd(root=str(tmp_path), partition=2)
    (base / "labels/val1.txt").write_text("spotted/spotted_0001.jpg\n")
    with pytest.raises(UserError, match=r"val1.txt: no class 'spotted'"):
        dtd(root=str(tmp_path))
