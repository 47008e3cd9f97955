import json
from pathlib import Path

import pytest

from dinodiet.data.sources.plantnet300k import plantnet300k
from dinodiet.errors import UserError
from tests.data import layouts

SPECIES = ("1355868", "1355920", "99")
FLAT = {"train": "images_train", "val": "images_val", "test": "images_test"}
DEEP = {"train": "images/train", "val": "images/val", "test": "images/test"}


def metadata() -> dict[str, dict[str, str]]:
    return {
        f"{1000 * start + 100 * label + i:05d}": {"split": split, "species_id": name, "organ": "leaf"}
        for start, split in enumerate(FLAT)
        for label, name in enumerate(SPECIES)
        for i in range(3)
    }


@pytest.mark.parametrize("names", [FLAT, DEEP])
def test_counts_labels_and_pixels(tmp_path: Path, names: dict[str, str]) -> None:
    folder = tmp_path / "plantnet_300K"
    layouts.tree(folder, names, SPECIES, ".jpg")
    (folder / "plantnet300K_metadata.json").write_text(json.dumps(metadata()))
    source = plantnet300k(root=str(tmp_path), published={"classes": 3, "train": 9, "val": 9, "test": 9})
    assert layouts.splits(source) == {
        split: (
            [1000 * start + 100 * label + i for label in range(3) for i in range(3)],
            [0] * 3 + [1] * 3 + [2] * 3,
        )
        for start, split in enumerate(names)
    }
    assert source.val is not None
    assert len(set.union(*(layouts.files(split) for split in (source.train, source.val, source.test)))) == 27


def test_wrong_files_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "plantnet_300K"
    with pytest.raises(UserError, match=rf"{folder} not found; get plantnet_300K.zip"):
        plantnet300k(root=str(tmp_path))
    layouts.tree(folder, {"train": "images_train", "val": "images_val"}, SPECIES, ".jpg")
    with pytest.raises(UserError, match=r"images_test not found"):
        plantnet300k(root=str(tmp_path))
    layouts.tree(folder, FLAT, SPECIES, ".jpg")
    with pytest.raises(UserError, match=r"classes 3 instead of 1,081, train 9 instead of 243,916"):
        plantnet300k(root=str(tmp_path), published={"classes": 1081, "train": 243916})
    (folder / "plantnet300K_metadata.json").write_text("[]")
    with pytest.raises(UserError, match=r"plantnet300K_metadata.json is broken"):
        plantnet300k(root=str(tmp_path))


def test_an_image_in_another_split_than_the_metadata_says(tmp_path: Path) -> None:
    folder = tmp_path / "plantnet_300K"
    layouts.tree(folder, FLAT, SPECIES, ".jpg")
    (folder / "plantnet300K_metadata.json").write_text(json.dumps(metadata()))
    layouts.write(folder / "images_test" / "99" / "00201.jpg", 201)
    with pytest.raises(UserError, match=r"images_test/99/00201.jpg: .* in train/99"):
        plantnet300k(root=str(tmp_path))
