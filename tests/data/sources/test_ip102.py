from pathlib import Path

import pytest

from dinodiet.data.sources.ip102 import ip102
from dinodiet.errors import NotOnDisk, UserError
from tests.data import layouts, releases


def test_counts_labels_and_pixels(tmp_path: Path) -> None:
    releases.insects(tmp_path)
    source = ip102(root=str(tmp_path), published={"classes": 3, "train": 12, "val": 12, "test": 12})
    assert source.classes == ("rice leaf roller", "rice leaf caterpillar", "grub")
    for start, split in enumerate(("train", "val", "test")):
        numbers = [1000 * start + 100 * label + i for label in range(3) for i in range(4)]
        assert layouts.splits(source)[split] == (numbers, [0] * 4 + [1] * 4 + [2] * 4)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotOnDisk, match=r"ip102_v1.1 not found; get ip102_v1.1.tar .*github.com/xpwu95/IP102"):
        ip102(root=str(tmp_path))
    base = releases.insects(tmp_path)
    (base / "ip102_v1.1" / "val.txt").write_text("01000.jpg 3\n")
    with pytest.raises(UserError, match=r"val.txt: class 3 found where 0 to 2 are known"):
        ip102(root=str(tmp_path))
    (base / "classes.txt").write_text("1 a\n3 b\n")
    with pytest.raises(UserError, match=r"classes.txt: classes are not numbered from 1 on"):
        ip102(root=str(tmp_path))
