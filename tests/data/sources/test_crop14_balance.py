import logging
from pathlib import Path

import pytest

from dinodiet.data.dataset import open_dataset
from dinodiet.data.sources.crop14_balance import crop14_balance
from dinodiet.errors import UserError
from tests.data import layouts

CROPS = tuple(f"crop{i:02d}" for i in range(14))


@pytest.mark.parametrize("test", ["test", "validation", "val"])
def test_folder_tree(tmp_path: Path, test: str) -> None:
    layouts.tree(tmp_path / "crop14_balance", {"train": "train", "test": test}, CROPS, ".jpg")
    source = crop14_balance(root=str(tmp_path), published={"classes": 14})
    labels = [label for label in range(14) for _ in range(3)]
    assert layouts.splits(source) == {
        split: ([1000 * start + 100 * label + i for label in range(14) for i in range(3)], labels)
        for start, split in enumerate(("train", "test"))
    }


def test_train_alone_gives_three_stratified_disjoint_splits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    layouts.tree(tmp_path / "crop14_balance", {"train": "train"}, CROPS, ".jpg", count=10)
    with caplog.at_level(logging.INFO):
        source = crop14_balance(root=str(tmp_path), published={"classes": 14})
    data = open_dataset(source, val_fraction=0.25)
    parts = [layouts.files(split) for split in (data.train, data.val, data.test)]
    assert [len(part) for part in parts] == [84, 28, 28]
    assert len(set.union(*parts)) == 140
    assert data.test.labels is not None
    assert data.test.labels.bincount().tolist() == [2] * 14


def test_parquet_files(tmp_path: Path) -> None:
    pytest.importorskip("datasets").disable_progress_bars()
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "crop14_balance").mkdir()
    for start, split in enumerate(("train", "validation")):
        images = [{"bytes": layouts.png(1000 * start + i), "path": None} for i in range(28)]
        table = pa.table({"image": images, "label": [i % 14 for i in range(28)]})
        pq.write_table(table, tmp_path / "crop14_balance" / f"{split}-00000-of-00001.parquet")
    source = crop14_balance(root=str(tmp_path), published={"classes": 14})
    assert (source.name, source.val) == ("crop14_balance", None)
    assert layouts.splits(source)["test"] == ([*range(1000, 1028)], [i % 14 for i in range(28)])


def test_wrong_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{tmp_path}/crop14_balance not found; .*download=true"):
        crop14_balance(root=str(tmp_path), download=False)
    layouts.tree(tmp_path / "crop14_balance", {"train": "train", "test": "test"}, CROPS[:13], ".jpg")
    with pytest.raises(UserError, match="classes 13 instead of 14"):
        crop14_balance(root=str(tmp_path), published={"classes": 14})
