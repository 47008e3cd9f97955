import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.model_selection import train_test_split

from dinodiet.data.dataset import RawSplits, open_dataset
from dinodiet.data.held_out import held_out_splits
from dinodiet.data.sources.aid import aid
from dinodiet.data.sources.carved import HOW, carve, carved_counts
from dinodiet.data.sources.flavia import SPECIES, flavia
from dinodiet.data.sources.jena_flowers30 import jena_flowers30
from dinodiet.data.sources.resisc45 import resisc45
from dinodiet.errors import NotOnDisk, UserError
from tests.data import layouts, releases

STUDY = {"aid": (10_000, 8000, 1000, 1000), "resisc45": (31_500, 25_200, 3150, 3150)}
STUDY |= {"jena_flowers30": (1479, 1183, 148, 148), "flavia": (1907, 1525, 191, 191)}


@pytest.mark.parametrize("name", STUDY)
def test_sizes_are_those_of_the_study(name: str) -> None:
    total, *sizes = STUDY[name]
    labels = torch.arange(total) % 30
    parts = carve(labels)
    assert [len(part) for part in parts] == sizes
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(total))
    assert all(torch.equal(part, part.sort().values) for part in parts)
    found = carved_counts(name, {"classes": 30, "all": total})
    assert found.val is not None
    assert [len(found.train), len(found.val), len(found.test)] == sizes


def test_the_split_is_that_of_scikit_learn_whatever_the_seed_of_a_run(tmp_path: Path) -> None:
    releases.scenes(tmp_path)
    source = aid(root=str(tmp_path))
    labels = np.repeat([0, 1], 10)
    train, rest = train_test_split(np.arange(20), test_size=0.2, stratify=labels, random_state=42)
    val, test = train_test_split(rest, test_size=0.5, stratify=labels[rest], random_state=42)
    expected = {"train": sorted(train), "val": sorted(val), "test": sorted(test)}
    for split, (numbers, found) in layouts.splits(source).items():
        assert numbers == [100 * (place // 10) + place % 10 for place in expected[split]]
        assert found == [place // 10 for place in expected[split]]
    data = open_dataset(source, split_seed=7)
    record = held_out_splits(data)
    for split in ("val", "test"):
        kept = record[split]
        assert kept["positions"] == expected[split]
        assert (kept["from"], kept["part"], kept["seed"], kept["drawn_by"]) == ("all", 0.1, 42, HOW)
        assert kept["files"] == [
            f"{releases.LANDS[p // 10]}/{100 * (p // 10) + p % 10:05d}.jpg" for p in kept["positions"]
        ]


def test_equal_images_in_two_carved_splits_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = releases.scenes(tmp_path)
    with caplog.at_level(logging.WARNING):
        aid(root=str(tmp_path))
    assert not caplog.messages
    for path in sorted((folder / "SeaLake").iterdir())[1:]:
        shutil.copy(folder / "SeaLake" / "00100.jpg", path)
    with caplog.at_level(logging.WARNING):
        aid(root=str(tmp_path))
    assert "aid: 1 of 2 images of split test are also in train" in caplog.text


def test_a_class_that_cannot_be_divided_is_one_line(tmp_path: Path) -> None:
    releases.scenes(tmp_path)
    layouts.write(tmp_path / "aid" / "AID" / "Third" / "1.jpg", 1)
    with pytest.raises(UserError, match=r"^aid: 21 images cannot be split \(.*least populated class"):
        aid(root=str(tmp_path))


def test_aid_may_lie_as_the_hub_has_it(tmp_path: Path) -> None:
    releases.scenes(tmp_path, "aid/data")
    assert aid(root=str(tmp_path)).classes == releases.LANDS
    with pytest.raises(NotOnDisk, match=r"^aid: .*/aid/AID not found; get AID.zip and unpack it in .*OneDrive"):
        aid(root=str(tmp_path / "elsewhere"))


def test_resisc45_by_published_lists(tmp_path: Path) -> None:
    base = releases.resisc(tmp_path)
    source = resisc45(root=str(tmp_path), split="neumann", download=False)
    assert layouts.splits(source)["val"] == ([6, 106, 7, 107], [0, 1, 0, 1])
    assert source.classes == releases.LANDS
    assert held_out_splits(open_dataset(source)) == {}
    shutil.move(base / "resisc45-test.txt", base / "other.txt")
    with pytest.raises(NotOnDisk, match=r"resisc45-test.txt not found; get http.*, or set download=true"):
        resisc45(root=str(tmp_path), split="neumann", download=False)
    assert len(resisc45(root=str(tmp_path), download=False).train) == 16


def labels_of(source: RawSplits) -> dict[int, int]:
    """Return the labels of all images by their numbers."""
    found: dict[str, Any] = layouts.splits(source)
    return {number: label for numbers, labels in found.values() for number, label in zip(numbers, labels, strict=True)}


def test_flavia_is_labelled_by_number(tmp_path: Path) -> None:
    base = releases.leaves(tmp_path)
    assert sum(last - first + 1 for _, first, last in SPECIES) == 1907
    source = flavia(root=str(tmp_path))
    assert source.classes is not None and (source.classes[0], source.classes[31]) == ("pubescent bamboo", "tangerine")
    found = labels_of(source)
    assert (found[1001], found[1060], found[3511], found[3575]) == (0, 1, 30, 31)
    assert len(found) == 320
    layouts.write(base / "Leaves" / "2613.jpg", 1)
    with pytest.raises(UserError, match=r"^flavia: .*2613.jpg: no species has number 2613; get Leaves.tar.bz2"):
        flavia(root=str(tmp_path))


def test_jena_flowers(tmp_path: Path) -> None:
    base = releases.jena(tmp_path)
    assert labels_of(jena_flowers30(root=str(tmp_path))) == {number: int(number > 10) for number in range(1, 21)}
    source = jena_flowers30(root=str(tmp_path), split=1)
    assert layouts.splits(source)["test"] == ([9, 10, 19, 20], [0, 0, 1, 1])
    assert source.classes == ("1", "2")
    (base / "val1.txt").write_text("7\n21\n")
    with pytest.raises(UserError, match=r"^jena_flowers30: .*val1.txt: JFT_00021.jpg is not in classlabels.txt"):
        jena_flowers30(root=str(tmp_path), split=1)
    with pytest.raises(NotOnDisk, match=r"trn2.txt not found; get trn2.txt and put it in .*Harvard Dataverse"):
        jena_flowers30(root=str(tmp_path), split=2)
    (base / "classlabels.txt").write_text("JFT_00001.jpg, one\n")
    with pytest.raises(UserError, match=r"classlabels.txt: 'one' found where a number is expected"):
        jena_flowers30(root=str(tmp_path))
