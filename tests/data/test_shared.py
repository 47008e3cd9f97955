import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dinodiet.data import shared
from dinodiet.data.cache.place import kept_in
from dinodiet.data.dataset import open_dataset
from dinodiet.data.sources.folder import image_folder


def fill(folder: Path, count: int, seed: int, suffix: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed)
    for number in range(count):
        Image.fromarray(pixels.integers(0, 255, (8, 8, 3), np.uint8)).save(folder / f"{number}.{suffix}")


def tree(root: Path, *splits: str, suffix: str = "png") -> Path:
    for number, split in enumerate(splits):
        for place, name in enumerate(("ant", "bee")):
            fill(root / split / name, 10, 10 * number + place, suffix)
    return root


def told(root: Path, caplog: pytest.LogCaptureFixture, **options: Any) -> list[str]:
    caplog.clear()
    image_folder(root=str(root), **options)
    return [record.message for record in caplog.records if "are also in" in record.message]


@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg"])
def test_nothing_is_told_of_different_images(suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert told(tree(tmp_path, "train", "val", "test", "pretext", suffix=suffix), caplog) == []


@pytest.mark.parametrize("suffix", ["png", "bmp"])
@pytest.mark.parametrize(
    "copy", [shutil.copy, lambda old, new: new.symlink_to(old), lambda old, new: new.hardlink_to(old)]
)
def test_a_copy_in_another_split_is_told(
    copy: Any, suffix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tree(tmp_path, "train", "val", "test", suffix=suffix)
    for number in (3, 7):
        copy(root / "train" / "ant" / f"{number}.{suffix}", root / "test" / "ant" / f"renamed{number}.{suffix}")
    (line,) = told(root, caplog)
    assert "2 of 22 images of split test are also in train" in line
    assert f"renamed3.{suffix} = " in line and f"train/ant/3.{suffix}" in line


def test_a_split_that_is_a_link_to_another_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path, "train", "val")
    (root / "test").symlink_to("val")
    (line,) = told(root, caplog)
    assert "20 of 20 images of split test are also in val" in line


def test_a_class_folder_of_another_split_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path, "train", "val", "test")
    (root / "train" / "ant" / "more").symlink_to(root / "test" / "ant")
    assert "10 of 20 images of split test are also in train" in " ".join(told(root, caplog))


def test_copies_between_held_out_images_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path, "train")
    for path in sorted((root / "train").rglob("*.png")):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    assert "split test are also in train" in " ".join(told(root, caplog))


def test_of_a_large_set_a_part_is_compared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path, "train", suffix="bmp")
    shutil.copytree(root / "train", root / "test")
    monkeypatch.setattr(shared, "READ", 12)
    (line,) = told(root, caplog)
    assert "at least 6 of 20" in line


def test_splits_are_compared_once_until_a_file_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree(tmp_path / "images", "train", "test", suffix="bmp")
    shutil.copy(root / "train" / "ant" / "3.bmp", root / "test" / "ant" / "copy.bmp")
    read: list[str] = []
    whole = shared._whole

    def noted(path: str) -> bytes:
        read.append(path)
        return whole(path)

    monkeypatch.setattr(shared, "_whole", noted)

    def lines(place: str = "cache") -> list[str]:
        read.clear()
        with kept_in(tmp_path / place):
            return told(root, caplog)

    (first,) = lines()
    assert "1 of 21 images of split test are also in train" in first and len(read) == 2
    assert lines() == [first] and read == []
    (path,) = (tmp_path / "cache" / "shared").glob("*.json")
    for broken in ("", "{}", '{"found": [{"first": 3}]}', path.read_text().replace('"count": 1', '"count": 0')):
        path.write_text(broken)
        assert lines() == [first] and len(read) == 2
    (root / "test" / "bee" / "3.bmp").write_bytes((root / "train" / "bee" / "3.bmp").read_bytes())
    (second,) = lines()
    assert "2 of 21" in second and len(read) == 4
    assert lines("other") == [second] and len(read) == 4
    assert told(root, caplog) == [second] and len(read) == 8  # without a cache


def told_when_opened(root: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    open_dataset(image_folder(root=str(root)), val_fraction=0.5)
    return [record.message for record in caplog.records if "are also in" in record.message]


def test_a_held_out_validation_split_is_compared_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path, "train", "test", "pretext")
    assert told_when_opened(root, caplog) == []
    for number in range(10):
        shutil.copy(root / "train" / "ant" / f"{number}.png", root / "train" / "ant" / f"copy{number}.png")
    (line,) = told_when_opened(root, caplog)
    assert "images of split val are also in train: " in line and "copy" in line
    shutil.copy(root / "train" / "bee" / "3.png", root / "test" / "bee" / "copy.png")
    assert sum("split test are also in" in line for line in told_when_opened(root, caplog)) == 1
