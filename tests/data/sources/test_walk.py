import logging
import os
from pathlib import Path
from typing import Any

import pytest

from dinodiet.data.sources.folder import image_folder
from dinodiet.errors import UserError
from tests.data.sources.test_folder import fill, names, tree

BESIDE: tuple[str, ...] = (
    ".ipynb_checkpoints",
    "@eaDir",
    "__MACOSX",
    ".thumbnails",
    "lost+found",
    "$RECYCLE.BIN",
    "@__thumb",
)
BESIDE += (
    "Thumbnails",
    "thumbs",
    "_thumbs",
    "FOUND.000",
    "found.123",
    "__pycache__",
    "#recycle",
    "System Volume Information",
)


def opened(root: Path) -> Any:
    return image_folder(root=str(root))


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("place", ["train", "train/ant", "train/ant/deep"])
def test_folders_beside_images_are_left_out_and_told(
    place: str, name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path, "train", "test")
    fill(tmp_path / place / name, 3, 100)
    fill(tmp_path / place / name / "below", 3, 100)
    source = opened(tmp_path)
    assert (len(source.train), source.num_labels) == (30, 3)
    (line,) = [record.message for record in caplog.records if "left out" in record.message]
    assert "1 hidden" in line and name in line


def test_hidden_files_are_left_out_and_told_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "train", "test")
    for name in ("._0.png", ".b.jpg", "Thumbs.db", "notes.txt"):
        (tmp_path / "train" / "ant" / name).write_bytes(b"x")
    assert len(opened(tmp_path).train) == 30
    (line,) = [record.message for record in caplog.records if "left out" in record.message]
    assert "2 hidden" in line and "._0.png" in line


@pytest.mark.parametrize("target", ["..", ".", "../..", "../../..", "absolute"])
def test_a_loop_is_left_out_and_told(target: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path / "set", "train", "val", "test")
    (root / "train" / "ant" / "up").symlink_to(root / "train" if target == "absolute" else target)
    source = opened(root)
    assert source.train.labels.bincount().tolist() == [10, 10, 10]
    assert any("1 link to a folder above it" in record.message for record in caplog.records)


def test_a_loop_through_a_linked_class_folder(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", "train", "val", "test")
    (root / "train" / "ant").rename(tmp_path / "elsewhere")
    (root / "train" / "ant").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(root)
    assert opened(root).train.labels.bincount().tolist() == [10, 10, 10]


def test_a_loop_is_not_a_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path / "set", "train", "test")
    (root / "train" / "all").symlink_to(".")
    fill(root / "train", 2)
    assert opened(root).num_labels == 3
    assert "1 link to a folder above" in caplog.text and "2 images in no class folder" in caplog.text


def test_a_link_to_another_class_takes_nothing_from_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path / "set", "train", "test")
    fill(root / "train" / "cat" / "deep", 5)
    (root / "train" / "ant" / "other").symlink_to("../bee")
    (root / "train" / "ant" / "third").symlink_to("../cat/deep")
    assert opened(root).train.labels.bincount().tolist() == [10, 10, 15]
    assert "2 folders that were there already" in caplog.text


def test_a_folder_that_is_linked_twice_counts_once(tmp_path: Path) -> None:
    root = tree(tmp_path / "set", "train", "test")
    fill(tmp_path / "more", 4)
    for name in ("one", "two"):
        (root / "train" / "ant" / name).symlink_to(tmp_path / "more")
    paths = names(opened(root).train)
    assert len(paths) == 34
    assert not any("/two/" in path for path in paths)


def test_two_classes_of_one_folder_are_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, "train", "test")
    (root / "train" / "dog").symlink_to("cat")
    with pytest.raises(UserError, match=r"same folder"):
        opened(root)


def test_a_class_that_is_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, "train", "test")
    (root / "train" / "dog").symlink_to("gone")
    with pytest.raises(UserError, match=r"dog is a link to gone"):
        opened(root)


def test_only_files_are_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tree(tmp_path, "train", "test")
    fill(root / "train" / "ant" / "x.jpg", 2)
    os.mkfifo(root / "train" / "ant" / "pipe.png")
    assert len(opened(root).train) == 32
    assert "1 named as an image" in caplog.text


def test_images_without_labels(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path / "all" / "deep", 4)
    fill(tmp_path / "all" / "@eaDir", 4)
    (tmp_path / "all" / "deep" / "up").symlink_to("..")
    with caplog.at_level(logging.WARNING):
        assert len(opened(tmp_path / "all").train) == 4


def test_the_folder_of_a_split_is_no_class_of_another(tmp_path: Path) -> None:
    for place in ("ant", "bee", "test/ant", "test/bee", "pretext"):
        fill(tmp_path / place, 5)
    source = image_folder(root=str(tmp_path), train=".")
    assert (source.num_labels, len(source.train), len(source.test)) == (2, 10, 10)
    assert image_folder(root=str(tmp_path), train=".", test=None).num_labels == 3
