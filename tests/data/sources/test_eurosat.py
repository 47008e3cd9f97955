from pathlib import Path

import pytest

from dinodiet.data.sources.eurosat import eurosat
from dinodiet.errors import UserError
from tests.data import layouts, releases

PUBLISHED = {"classes": 2, "train": 20, "val": 20, "test": 20}


@pytest.mark.parametrize("folder", ["2750", "EuroSAT_RGB"])
def test_counts_labels_and_pixels(folder: str, tmp_path: Path) -> None:
    releases.eurosat(tmp_path, folder)
    source = eurosat(root=str(tmp_path), download=False, published=PUBLISHED)
    assert source.classes == releases.LANDS
    for start, split in enumerate(("train", "val", "test")):
        numbers, labels = layouts.splits(source)[split]
        assert numbers == [1000 * start + 100 * label + i for i in range(10) for label in range(2)]
        assert labels == [0, 1] * 10


def test_wrong_files_are_named(tmp_path: Path) -> None:
    base = releases.eurosat(tmp_path)
    (base / "2750/SeaLake/SeaLake_1103.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 20 .* not found, first .*SeaLake_1103.jpg; get http"):
        eurosat(root=str(tmp_path), download=False)
    (base / "eurosat-val.txt").write_text("Sea_Lake_1.jpg\n")
    with pytest.raises(UserError, match=r"eurosat-val.txt: no class 'Sea_Lake'"):
        eurosat(root=str(tmp_path), download=False)
    (base / "eurosat-test.txt").unlink()
    with pytest.raises(UserError, match=r"eurosat-test.txt not found; get http.* and put it in .*download=true"):
        eurosat(root=str(tmp_path), download=False)
