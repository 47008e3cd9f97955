from pathlib import Path
from typing import Any

import pytest

from dinodiet.data.sources.fgvc_aircraft import fgvc_aircraft
from dinodiet.errors import UserError
from tests.data import layouts

PUBLISHED = {"classes": 3, "train": 6, "val": 6, "test": 6}


def test_counts_labels_and_pixels(tmp_path: Path) -> None:
    layouts.aircraft(tmp_path)
    source = fgvc_aircraft(root=str(tmp_path), published=PUBLISHED)
    labels = [2, 2, 1, 1, 0, 0]
    assert layouts.splits(source) == {
        split: ([start + n for n in (21, 20, 11, 10, 1, 0)], labels)
        for start, split in ((0, "train"), (1000, "val"), (2000, "test"))
    }
    assert source.num_labels == 3
    assert source.val is not None
    assert len(set.union(*(layouts.files(split) for split in (source.train, source.val, source.test)))) == 18


def test_families(tmp_path: Path) -> None:
    layouts.aircraft(tmp_path)
    source = fgvc_aircraft(root=str(tmp_path), level="family")
    assert source.num_labels == 2
    assert source.test.labels is not None
    assert source.test.labels.tolist() == [1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("level", "count"), [("variant", 100), ("family", 70), ("manufacturer", 30)])
def test_published_classes_follow_the_level(tmp_path: Path, level: Any, count: int) -> None:
    layouts.aircraft(tmp_path)
    with pytest.raises(UserError, match=rf"classes \d instead of {count}, test 6 instead of 3,333"):
        fgvc_aircraft(root=str(tmp_path), level=level, published={"test": 3333})


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/fgvc-aircraft-2013b not found; get https"):
        fgvc_aircraft(root=str(tmp_path), download=False)
    data = layouts.aircraft(tmp_path)
    (data / "images" / "0001020.jpg").unlink()
    with pytest.raises(UserError, match=r"1 of 6 .* not found, first .*/0001020.jpg"):
        fgvc_aircraft(root=str(tmp_path))
    (data / "images_variant_train.txt").write_text("0000000 Concorde\n")
    with pytest.raises(UserError, match=r"images_variant_train.txt: no class of '0000000 Concorde'"):
        fgvc_aircraft(root=str(tmp_path))
    (data / "variants.txt").unlink()
    with pytest.raises(UserError, match=r"variants.txt not found; get https"):
        fgvc_aircraft(root=str(tmp_path))
