"""Where images come from: positions, files, and fingerprints of a part of them."""

import os
from pathlib import Path

import torch

from dinodiet.data.images import FileImages, Subset, TensorImages
from dinodiet.data.origin import files_below, part_of, positions_of, root_of


def files(root: Path, *names: str) -> FileImages:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return FileImages([root / name for name in names], torch.arange(len(names)))


def test_files_are_named_below_the_root_in_the_order_of_the_split(tmp_path: Path) -> None:
    images = Subset(files(tmp_path, "a/1.png", "a/2.png", "b/3.png"), torch.tensor([2, 0]))
    assert files_below(images, 0, 2, str(tmp_path)) == ["b/3.png", "a/1.png"]
    assert files_below(images, 1, 2, str(tmp_path / "a")) == ["1.png"]
    assert positions_of(images).tolist() == [2, 0]


def test_frames_and_names_that_are_no_utf8(tmp_path: Path) -> None:
    odd = os.fsdecode(bytes(tmp_path) + b"/x\xff\n.tif")
    assert files_below(FileImages([odd, odd], frames=[0, 1]), 0, 2, str(tmp_path)) == [
        "x\\xff\\n.tif#0",
        "x\\xff\\n.tif#1",
    ]


def test_arrays_have_no_files() -> None:
    images = TensorImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8))
    assert files_below(images, 0, 3, "") is None and root_of([images], "/x") is None
    assert positions_of(images).tolist() == [0, 1, 2]


def test_the_root_is_the_given_one_or_what_all_files_have_in_common(tmp_path: Path) -> None:
    splits = [files(tmp_path, "set/train/a/1.png", "set/train/b/1.png"), files(tmp_path, "set/test/a/1.png")]
    assert root_of(splits, str(tmp_path)) == str(tmp_path)
    assert root_of(splits, None) == root_of(splits, "/elsewhere") == str(tmp_path / "set")
    assert root_of([files(tmp_path, "one.png")], None) == str(tmp_path)
    assert root_of(splits, str(tmp_path / "se")) == str(tmp_path / "set")  # it begins alike


def test_a_part_tells_nothing_of_other_files(tmp_path: Path) -> None:
    paths = files(tmp_path, "1.png", "2.png", "3.png", "4.png").paths

    def found() -> list[str]:
        images = Subset(FileImages(paths), torch.tensor([3, 2, 1, 0]))
        return [part_of(images, 0, 2).fingerprint(), part_of(images, 2, 4).fingerprint()]

    before = found()
    (tmp_path / "1.png").write_text("changed")
    after = found()
    assert before[0] == after[0] and before[1] != after[1]


def test_a_part_keeps_labels_frames_and_bits(tmp_path: Path) -> None:
    images = FileImages(["x", "x", "y"], torch.tensor([4, 5, 6]), frames=[0, 1, 0])
    images.bits = 12
    part = part_of(images, 1, 3)
    assert isinstance(part, FileImages) and part.paths == ["x", "y"] and part.frames == [1, 0] and part.bits == 12
    assert part.labels is not None and part.labels.tolist() == [5, 6]
    assert part.fingerprint() != part_of(images, 0, 2).fingerprint()


def test_parts_of_arrays_differ() -> None:
    images = TensorImages(torch.zeros(4, 1, 2, 2, dtype=torch.uint8))
    assert part_of(images, 0, 2).fingerprint() != part_of(images, 2, 4).fingerprint()
