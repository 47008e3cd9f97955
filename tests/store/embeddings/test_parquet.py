import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dinodiet.store.embeddings.parquet import ParquetWriter
from tests.store.embeddings.parts import CLASSES, LAYOUT, PARTS, rows, whole, written


def test_a_folder_is_read_back_as_one_table(tmp_path: Path) -> None:
    written(ParquetWriter(tmp_path, LAYOUT))
    (tmp_path / "_embeddings.json").write_text("{}")
    (tmp_path / ".lock").touch()
    table = pd.read_parquet(tmp_path)
    assert list(table) == ["split", "index", "file", "label", "class", "embedding"]
    assert np.array_equal(np.stack(table["embedding"].tolist()), whole())
    assert table["file"].tolist() == [f"{'deep/' * i}x{i}.png" for i in range(5)]
    assert table["label"].tolist() == table["index"].mod(3).tolist()
    assert table["class"].tolist() == [CLASSES[label] for label in table["label"]]
    assert set(table["split"]) == {"test"}


def test_embeddings_are_float32_lists_of_one_size(tmp_path: Path) -> None:
    path, _ = written(ParquetWriter(tmp_path, LAYOUT))
    schema = pq.read_schema(path)
    assert schema.field("embedding").type == pa.list_(pa.float32(), 4)
    told = json.loads(schema.metadata[b"dinodiet"])
    assert told == {"model": "tiny", "split": "test", "rows": [0, 3], "key": "k0"}


def test_several_labels_are_lists(tmp_path: Path) -> None:
    writer = ParquetWriter(tmp_path, replace(LAYOUT, multilabel=True))
    writer.write(PARTS[1], rows(PARTS[1], several=True))
    table = pd.read_parquet(tmp_path)
    assert [row.tolist() for row in table["label"]] == [[1, 0, 0], [1, 1, 0]]
    assert [row.tolist() for row in table["class"]] == [["cat"], ["cat", "dog"]]


@pytest.mark.parametrize("several", [False, True])
def test_a_split_that_lacks_labels_or_files_has_nulls_beside_others(tmp_path: Path, several: bool) -> None:
    writer = ParquetWriter(tmp_path, replace(LAYOUT, multilabel=several))
    writer.write(PARTS[0], rows(PARTS[0], several=several))
    writer.write(PARTS[1], rows(PARTS[1], labelled=False, named=False))
    table = pd.read_parquet(tmp_path)
    assert table[["file", "label", "class"]].isna().all(axis=1).tolist() == [False] * 3 + [True] * 2


def test_columns_that_no_split_has_are_left_out(tmp_path: Path) -> None:
    writer = ParquetWriter(tmp_path, replace(LAYOUT, named=False, num_labels=0, classes=None))
    writer.write(PARTS[0], rows(PARTS[0], labelled=False, named=False))
    assert list(pd.read_parquet(tmp_path)) == ["split", "index", "embedding"]


def test_what_is_broken_or_of_another_key_is_missing(tmp_path: Path) -> None:
    writer = ParquetWriter(tmp_path, LAYOUT)
    assert writer.missing(PARTS) == PARTS and not writer.exists(PARTS[0])
    first, second = written(writer)
    assert writer.missing(PARTS) == []
    changed = [replace(PARTS[0], key="other"), PARTS[1]]
    assert writer.missing(changed) == changed[:1] and writer.exists(changed[0])
    second.write_bytes(second.read_bytes()[:-10])
    pq.write_table(pa.table({"a": [1]}), first)
    assert writer.missing(PARTS) == PARTS


def test_parts_that_are_no_more_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("test-00002.parquet", "test-00001.parquet", "train-00002.parquet", "test-mine.parquet"):
        (tmp_path / name).touch()
    assert [path.name for path in written(ParquetWriter(tmp_path, LAYOUT))] == [f"{p.name}.parquet" for p in PARTS]
    assert not (tmp_path / "test-00002.parquet").exists()
    assert (tmp_path / "train-00002.parquet").exists() and (tmp_path / "test-mine.parquet").exists()


def test_equal_rows_make_equal_bytes(tmp_path: Path) -> None:
    one, two = (written(ParquetWriter(tmp_path / name, LAYOUT)) for name in ("a", "b"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
