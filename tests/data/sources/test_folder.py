import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from dinodiet.data.dataset import open_dataset
from dinodiet.data.images import FileImages, Subset
from dinodiet.data.sources.folder import image_folder
from dinodiet.errors import UserError


def fill(folder: Path, count: int, colour: int = 0, suffix: str = ".png") -> None:
    """Write images of different sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.new("RGB", (4 + i % 3, 5), (colour, i, 0)).save(folder / f"{i}{suffix}")


def tree(root: Path, *splits: str, count: int = 10) -> Path:
    for split in splits:
        for colour, name in enumerate(("ant", "bee", "cat")):
            fill(root / split / name, count, colour)
    return root


def open_folder(root: Path, **options: Any) -> Any:
    return image_folder(root=str(root), **options)


def names(images: Any) -> set[str]:
    if isinstance(images, Subset):
        assert isinstance(images.images, FileImages)
        return {images.images.paths[position] for position in images.positions.tolist()}
    return set(images.paths)


def test_all_splits(tmp_path: Path) -> None:
    tree(tmp_path, "train", "val", "test")
    fill(tmp_path / "pretext" / "deep" / "down", 7)
    data = open_dataset(open_folder(tmp_path))
    assert [len(split) for split in (data.pretext, data.train, data.val, data.test)] == [7, 30, 30, 30]
    assert (data.spec.name, data.spec.num_labels, data.spec.pretext_labelled) == (tmp_path.name, 3, False)
    assert data.spec.native_size is None
    for split in (data.train, data.val, data.test):
        assert split.labels is not None
        assert all(split[i][0, 0, 0] == split.labels[i] for i in range(30))


def test_train_alone_gives_three_disjoint_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tree(tmp_path, "train")
    with caplog.at_level(logging.INFO):
        data = open_dataset(open_folder(tmp_path), val_fraction=0.25)
    assert "no test split: 6 of the 30 training images are held out" in caplog.text
    splits = [names(split) for split in (data.train, data.val, data.test)]
    assert [len(split) for split in splits] == [18, 6, 6]
    assert len(set.union(*splits)) == 30
    assert data.test.labels is not None
    assert data.test.labels.bincount().tolist() == [2, 2, 2]
    assert data.pretext is data.train


def test_held_out_test_is_the_same_for_every_split_seed(tmp_path: Path) -> None:
    tree(tmp_path, "train")
    one, two = (open_dataset(open_folder(tmp_path), split_seed=seed) for seed in (0, 1))
    assert names(one.test) == names(two.test)
    assert names(one.val) != names(two.val)


def test_val_is_not_taken_for_test(tmp_path: Path) -> None:
    tree(tmp_path, "train", "val")
    source = open_folder(tmp_path)
    assert all("/train/" in name for name in names(source.test))
    assert all("/val/" in name for name in names(source.val))


def test_published_imagenet_layout(tmp_path: Path) -> None:
    tree(tmp_path, "train", "val")
    data = open_dataset(open_folder(tmp_path, test="val", val=None))
    assert all("/val/" in name for name in names(data.test))
    assert all("/train/" in name for name in names(data.val))
    assert len(data.test) == 30


def test_classes_are_those_of_train_in_alphabetical_order(tmp_path: Path) -> None:
    tree(tmp_path, "train")
    fill(tmp_path / "test" / "cat", 3)
    test = open_folder(tmp_path).test
    assert test.labels.tolist() == [2, 2, 2]


def test_only_images_count(tmp_path: Path) -> None:
    tree(tmp_path, "train", "test")
    (tmp_path / "train" / "notes.txt").touch()
    (tmp_path / "train" / "ant" / "Thumbs.db").touch()
    (tmp_path / "train" / "ant" / "._0.png").touch()
    (tmp_path / "train" / ".git").mkdir()
    fill(tmp_path / "train" / "bee" / "more", 2, suffix=".JPG")
    assert open_folder(tmp_path).train.labels.bincount().tolist() == [10, 12, 10]


def test_order_does_not_depend_on_the_file_system(tmp_path: Path) -> None:
    for i in (3, 1, 2):
        fill(tmp_path / "train" / f"class {i}", 3)
    tree(tmp_path, "test")
    paths = open_folder(tmp_path, test=None, test_fraction=0.5).train.images.paths
    assert paths == sorted(paths)


def test_links_are_followed(tmp_path: Path) -> None:
    tree(tmp_path / "elsewhere", "train", "test")
    (tmp_path / "here" / "train").mkdir(parents=True)
    (tmp_path / "here" / "test").symlink_to(tmp_path / "elsewhere" / "test")
    for name in ("ant", "bee"):
        (tmp_path / "here" / "train" / name).symlink_to(tmp_path / "elsewhere" / "train" / name)
    (tmp_path / "here" / "train" / "cat").mkdir()
    (tmp_path / "here" / "train" / "cat" / "deeper").symlink_to(tmp_path / "elsewhere" / "train" / "cat")
    assert len(open_folder(tmp_path / "here").train) == 30


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "images", "train", "test")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_folder(Path("~/images")).name == "images"


def test_images_are_decoded(tmp_path: Path) -> None:
    tree(tmp_path, "train", "test")
    image = open_folder(tmp_path).train[1]
    assert image.shape == (3, 5, 5)
    assert torch.equal(image[:, 0, 0], torch.tensor([0, 1, 0], dtype=torch.uint8))


@pytest.mark.parametrize("place", ["", "a/b", "train", "pretext"])
def test_images_without_labels_are_all_trained_on(place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path / place, 6)
    if place == "pretext":
        fill(tmp_path / "elsewhere", 3)
    data = open_dataset(open_folder(tmp_path), limit=5)
    assert data.train is data.pretext
    assert [len(split) for split in (data.train, data.val, data.test)] == [5, 0, 0]
    assert (data.pretext.labels, data.spec.num_labels, data.spec.labelled) == (None, 0, False)
    assert f"no train/<class>/, so all {6} images are without labels" in caplog.text


def test_the_root_may_hold_the_classes(tmp_path: Path) -> None:
    tree(tmp_path, ".")
    assert open_folder(tmp_path, train=".").num_labels == 3


def _val_alone(root: Path) -> None:
    fill(root / "train", 3)
    tree(root, "val")


def _empty_class(root: Path) -> None:
    tree(root, "train")
    (root / "train" / "dog").mkdir()


def _other_class(root: Path) -> None:
    tree(root, "train", "val")
    fill(root / "val" / "dog", 3)


def _empty_pretext(root: Path) -> None:
    tree(root, "train")
    (root / "pretext").mkdir()


def _empty_val(root: Path) -> None:
    tree(root, "train")
    (root / "val").mkdir()


def _complete(root: Path) -> None:
    tree(root, "train", "val", "test", count=1)


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (_complete, {"root": "nowhere"}, "root: no folder nowhere"),
        (lambda root: None, {}, "no images in {root};"),
        (_val_alone, {}, "train: no class folders in {root}/train"),
        (_complete, {"train": "trian"}, "train: no folder {root}/trian"),
        (_empty_class, {}, "no images in {root}/train/dog"),
        (_other_class, {}, "{root}/val/dog: class 'dog' is not in train"),
        (_empty_pretext, {}, "no images in {root}/pretext"),
        (_empty_val, {}, "no class folders in {root}/val"),
        (_complete, {"test": "tset"}, "test: no folder {root}/tset"),
        (_complete, {"test": "val"}, "train, val, val, pretext are the folders"),
    ],
)
def test_mistakes_are_named_in_one_line(tmp_path: Path, make: Any, options: dict[str, Any], message: str) -> None:
    make(tmp_path)
    with pytest.raises(UserError) as caught:
        image_folder(**{"root": str(tmp_path), **options})
    assert str(caught.value).startswith(message.format(root=tmp_path))
    assert "\n" not in str(caught.value)
