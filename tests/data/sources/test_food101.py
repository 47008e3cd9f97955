import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest

from dinodiet.data.dataset import open_dataset
from dinodiet.data.sources import food101 as module
from dinodiet.data.sources.food101 import food101
from dinodiet.errors import UserError
from tests.data import layouts
from tests.web import published


def test_counts_labels_and_pixels(tmp_path: Path) -> None:
    layouts.food101(tmp_path)
    source = food101(root=str(tmp_path), download=False, published={"classes": 3, "train": 12, "test": 6})
    found = layouts.splits(source)
    assert found["train"] == ([0, 1, 2, 3, 100, 101, 102, 103, 200, 201, 202, 203], [0] * 4 + [1] * 4 + [2] * 4)
    assert found["test"] == ([4, 5, 104, 105, 204, 205], [0, 0, 1, 1, 2, 2])
    data = open_dataset(source, val_fraction=0.25)
    parts = [layouts.files(split) for split in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [9, 3, 6]
    assert len(set.union(*parts)) == 18


def test_other_counts_are_refused_unless_meant(tmp_path: Path) -> None:
    folder = layouts.food101(tmp_path)
    with pytest.raises(UserError, match=rf"{folder} is not the published set .*12 instead of 75,750") as caught:
        food101(root=str(tmp_path), published={"train": 75750, "test": 6})
    assert "published=null" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"^published: no key .trian.; choose from"):
        food101(root=str(tmp_path), published={"trian": 12})


def test_missing_set_says_where_and_how(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/food-101 not found; get http.*tar.gz"):
        food101(root=str(tmp_path), download=False)


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    folder = layouts.food101(tmp_path)
    (folder / "images/ceviche/1002.jpg").unlink()
    shutil.rmtree(folder / "images/waffles")
    with pytest.raises(UserError, match=r"5 of 12 .* not found, first .*ceviche/1002.jpg"):
        food101(root=str(tmp_path))
    (folder / "meta/test.json").write_text("{")
    with pytest.raises(UserError, match=r"meta/test.json is broken"):
        food101(root=str(tmp_path))
    (folder / "meta/test.json").write_text(json.dumps({"apple_pie": []}))
    with pytest.raises(UserError, match=r"the classes of .* differ"):
        food101(root=str(tmp_path))
    (folder / "meta/train.json").unlink()
    with pytest.raises(UserError, match=r"meta/train.json not found; get http"):
        food101(root=str(tmp_path))


def test_broken_image_is_skipped_by_choice(tmp_path: Path) -> None:
    folder = layouts.food101(tmp_path)
    (folder / "images/ceviche/1002.jpg").write_bytes(b"no image")
    found = layouts.splits(food101(root=str(tmp_path), broken="skip", published={"train": 12}))
    assert found["train"] == ([0, 1, 2, 3, 100, 101, 103, 200, 201, 202, 203], [0] * 4 + [1] * 3 + [2] * 4)


def test_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layouts.food101(tmp_path / "shelf")
    with tarfile.open(tmp_path / "shelf" / "food-101.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "shelf" / "food-101", "food-101")
    root = tmp_path / "root"
    with published(tmp_path / "shelf", monkeypatch) as address:
        monkeypatch.setattr(module, "URL", f"{address}food-101.tar.gz")
        with pytest.raises(UserError, match=r"food-101 not found, .*download failed .*; get http") as caught:
            food101(root=str(root))  # another checksum is published
        assert "\n" not in str(caught.value)
        assert not root.exists()
        monkeypatch.setattr(module, "MD5", None)
        assert len(food101(root=str(root)).test) == 6
    assert {path.name for path in root.iterdir()} == {"food-101", "food-101.tar.gz.sha256"}


def test_archive_that_is_no_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "food-101.tar.gz").write_bytes(b"not an archive")
    monkeypatch.setattr(module, "MD5", None)
    with published(tmp_path / "shelf", monkeypatch) as address:
        monkeypatch.setattr(module, "URL", f"{address}food-101.tar.gz")
        with pytest.raises(UserError, match=re.escape(f"get {address}food-101.tar.gz")):
            food101(root=str(tmp_path / "root"))
