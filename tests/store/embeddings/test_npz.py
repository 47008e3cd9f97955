import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dinodiet.store.embeddings.npz import NpzWriter
from tests.store.embeddings.parts import CLASSES, LAYOUT, PARTS, rows, whole, written


def test_a_split_is_read_back_without_pickle(tmp_path: Path) -> None:
    (path,) = written(NpzWriter(tmp_path, LAYOUT))
    with np.load(path, allow_pickle=False) as found:
        assert set(found.files) == {"embeddings", "index", "files", "labels", "classes", "metadata"}
        assert found["embeddings"].dtype == np.float32 and np.array_equal(found["embeddings"], whole())
        assert found["files"].tolist() == [f"{'deep/' * i}x{i}.png" for i in range(5)]  # the second part's are longer
        assert found["index"].tolist() == [0, 1, 2, 3, 4] and found["labels"].tolist() == [0, 1, 2, 0, 1]
        assert tuple(found["classes"]) == CLASSES
        assert json.loads(str(found["metadata"])) == {**LAYOUT.about, "split": "test", "key": _key(path)}
    assert [entry.name for entry in tmp_path.iterdir()] == ["test.npz"]


def _key(path: Path) -> str:
    with np.load(path, allow_pickle=False) as found:
        return str(json.loads(str(found["metadata"]))["key"])


def test_several_labels_and_none(tmp_path: Path) -> None:
    writer = NpzWriter(tmp_path, replace(LAYOUT, multilabel=True))
    for part in PARTS:
        writer.write(part, rows(part, several=True))
    with np.load(writer.finish(PARTS)[0], allow_pickle=False) as found:
        assert found["labels"].shape == (5, 3) and found["labels"][4].tolist() == [1, 1, 0]
    for part in PARTS:
        writer.write(replace(part, key="other"), rows(part, labelled=False, named=False))
    (path,) = NpzWriter(tmp_path, replace(LAYOUT, classes=None)).finish([replace(part, key="other") for part in PARTS])
    with np.load(path, allow_pickle=False) as found:
        assert set(found.files) == {"embeddings", "index", "metadata"}


def test_parts_are_missing_until_they_are_written_and_after_they_changed(tmp_path: Path) -> None:
    writer = NpzWriter(tmp_path, LAYOUT)
    assert writer.missing(PARTS) == PARTS and not writer.exists(PARTS[0])
    writer.write(PARTS[1], rows(PARTS[1]))
    assert writer.missing(PARTS) == PARTS[:1] and writer.exists(PARTS[1])
    written(writer)
    assert writer.missing(PARTS) == [] and writer.exists(PARTS[0])
    assert writer.missing(changed := [PARTS[0], replace(PARTS[1], key="other")]) == changed


@pytest.mark.parametrize("harm", ["cut", "emptied", "array", "words"])
def test_a_broken_file_is_made_again(tmp_path: Path, harm: str) -> None:
    writer = NpzWriter(tmp_path, LAYOUT)
    (path,) = written(writer)
    before = path.read_bytes()
    if harm == "array":
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    else:
        path.write_bytes({"cut": before[:-30], "emptied": b"", "words": b"no archive"}[harm])
    assert writer.missing(PARTS) == PARTS
    written(writer)
    assert path.read_bytes() == before


def test_equal_rows_make_equal_bytes_at_any_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = written(NpzWriter(tmp_path / "a", LAYOUT))
    monkeypatch.setattr(time, "time", lambda: 2e9)
    (two,) = written(NpzWriter(tmp_path / "b", LAYOUT))
    assert one.read_bytes() == two.read_bytes()


def test_a_finished_split_is_left_alone_and_parts_of_it_go(tmp_path: Path) -> None:
    writer = NpzWriter(tmp_path, LAYOUT)
    (path,) = written(writer)
    before = path.stat().st_mtime_ns
    writer.write(PARTS[0], rows(PARTS[0]))  # as where the command was stopped before it removed them
    assert writer.finish(PARTS) == [path] and path.stat().st_mtime_ns == before
    assert not (tmp_path / ".parts").exists()
