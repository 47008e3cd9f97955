from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dinodiet.data.cache.decoded import keep_decoded
from dinodiet.data.dataset import RawSplits, open_dataset
from dinodiet.data.held_out import held_out_splits
from dinodiet.data.images import Subset, TensorImages
from dinodiet.data.sources.digits import digits
from dinodiet.data.sources.folder import image_folder
from dinodiet.data.splits import stratified_split
from dinodiet.types import Data
from tests.data import layouts

CLASSES = ("ant", "bee", "cat")


def in_memory(count: int, multilabel: bool = False) -> TensorImages:
    pixels = torch.zeros(count, 1, 2, 2, dtype=torch.uint8)
    labels = torch.arange(count) % 3
    return TensorImages(pixels, torch.nn.functional.one_hot(labels) if multilabel else labels)


def write_images(root: Path, *splits: str, count: int = 20) -> Path:
    layouts.tree(root, {split: split for split in splits}, CLASSES, ".png", count)
    return root


def folder(root: Path) -> RawSplits:
    return image_folder(root=str(write_images(root, "train")))


def broken() -> list[str]:
    return [f"{name}/{100 * label + i:05d}.png" for label, name in enumerate(CLASSES) for i in range(0, 20, 3)]


def skipping(root: Path) -> RawSplits:
    write_images(root, "train")
    for name in broken():
        (root / "train" / name).write_bytes(b"no image")
    return image_folder(root=str(root), broken="skip")


def multilabel(root: Path) -> RawSplits:
    return RawSplits("multi", in_memory(60, True), in_memory(30, True), num_labels=3, multilabel=True)


def positions(data: Data, *splits: str) -> dict[str, tuple[int, set[int]]]:
    found = {}
    for name in splits:
        images = getattr(data, name)
        assert isinstance(images, Subset)
        found[name] = (id(images.images), set(images.positions.tolist()))
        assert len(found[name][1]) == len(images)
    return found


@pytest.mark.parametrize("limit", [None, 12])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("source", [folder, skipping, multilabel, lambda root: digits()])
def test_splits_never_overlap(
    tmp_path: Path, source: Callable[[Path], RawSplits], seed: int, limit: int | None
) -> None:
    data = open_dataset(source(tmp_path), split_seed=seed, limit=limit, val_fraction=0.2)
    names = ("pretext", "train", "val") if isinstance(data.test, TensorImages) else ("pretext", "train", "val", "test")
    found = positions(data, *names)
    bases = {base for base, _ in found.values()}
    assert len(bases) == 1
    disjoint = [places for name, (_, places) in found.items() if name != "pretext"]
    assert len(set.union(*disjoint)) == sum(map(len, disjoint))
    assert found["pretext"][1] == found["train"][1]


def test_the_record_is_enough_to_draw_the_splits_again(tmp_path: Path) -> None:
    data = open_dataset(folder(tmp_path), split_seed=7, val_fraction=0.25)
    record = held_out_splits(data)
    listed = sorted(str(path.relative_to(tmp_path / "train")) for path in (tmp_path / "train").rglob("*.png"))
    labels = torch.tensor([CLASSES.index(name.split("/")[0]) for name in listed])
    rest, test = stratified_split(labels, record["test"]["part"], record["test"]["seed"])
    _, val = stratified_split(labels[rest], record["val"]["part"], record["val"]["seed"])
    assert record["test"]["positions"] == test.tolist()
    assert record["val"]["positions"] == rest[val].tolist()
    for split, count in (("test", 12), ("val", 12)):
        kept = record[split]
        assert kept["files"] == [listed[position] for position in kept["positions"]]
        assert kept["images_per_label"] == [count // 3] * 3
        assert (kept["from"], kept["from_images"], kept["images"], kept["stratified"]) == ("train", 60, count, True)
    assert (record["val"]["seed"], record["val"]["part"]) == (7, 0.25)
    assert record["dataset"] == tmp_path.name


def test_kept_decoded_or_limited_changes_nothing(tmp_path: Path) -> None:
    plain = open_dataset(folder(tmp_path / "data"))
    assert held_out_splits(keep_decoded(plain, tmp_path / "cache", 1)) == held_out_splits(plain)
    assert held_out_splits(open_dataset(image_folder(root=str(tmp_path / "data")), limit=9)) == held_out_splits(plain)


def test_skipped_images_are_in_no_split(tmp_path: Path) -> None:
    record = held_out_splits(open_dataset(skipping(tmp_path)))
    named = {*record["val"]["files"], *record["test"]["files"]}
    assert not named & set(broken())
    assert record["test"]["images"] < 12  # of the 12 that were drawn, some are broken
    assert record["test"]["images"] == len(record["test"]["files"]) == sum(record["test"]["images_per_label"])


def test_only_splits_of_our_own_are_recorded(tmp_path: Path) -> None:
    write_images(tmp_path, "train", "val", "test")
    assert held_out_splits(open_dataset(image_folder(root=str(tmp_path)))) == {}
    record: dict[str, Any] = held_out_splits(open_dataset(image_folder(root=str(tmp_path), val=None)))
    assert set(record) == {"dataset", "val"}
    (tmp_path / "test" / "ant" / "02000.png").write_bytes(b"no image")
    data = open_dataset(image_folder(root=str(tmp_path), broken="skip"))
    assert isinstance(data.test, Subset)  # a selection, but not of our own
    assert held_out_splits(data) == {}


def test_multilabel_and_memory(tmp_path: Path) -> None:
    record = held_out_splits(open_dataset(multilabel(tmp_path)))
    assert set(record) == {"dataset", "val"}
    assert not record["val"]["stratified"]
    assert sum(record["val"]["images_per_label"]) == 6
    assert "files" not in record["val"]
    assert set(held_out_splits(open_dataset(digits()))) == {"dataset", "val", "test"}
