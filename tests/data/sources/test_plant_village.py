from pathlib import Path

import pytest

from dinodiet.data.sources.plant_village import plant_village
from dinodiet.errors import UserError
from tests.data import layouts, releases


def test_counts_labels_and_pixels(tmp_path: Path) -> None:
    releases.village(tmp_path)
    source = plant_village(root=str(tmp_path), download=False, published={"classes": 2, "train": 20, "test": 20})
    assert source.classes == releases.LEAVES
    assert source.val is None
    for start, split in enumerate(("train", "test")):
        numbers = [1000 * start + 100 * label + i for label in range(2) for i in range(10)]
        assert layouts.splits(source)[split] == (numbers, [0] * 10 + [1] * 10)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    base = releases.village(tmp_path)
    (base / "color_test.txt").write_text("raw/color/Mango___healthy/1.JPG\n")
    with pytest.raises(UserError, match=r"color_test.txt: no class 'Mango___healthy' is known; get http"):
        plant_village(root=str(tmp_path), download=False)
    (base / "data" / "raw/color" / releases.LEAVES[0] / "leaf 3.JPG").unlink()
    releases_list = "\n".join(f"raw/color/{releases.LEAVES[0]}/leaf 100{i}.JPG" for i in range(3))
    (base / "color_test.txt").write_text(releases_list)
    with pytest.raises(UserError, match=r"1 of 20 listed images not found, first .*leaf 3.JPG"):
        plant_village(root=str(tmp_path), download=False)
