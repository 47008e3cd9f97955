"""The files of a record: parts of bounded size, no double rows, rows after a step dropped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinodiet.errors import UserError
from dinodiet.store import records
from dinodiet.store.records import RecordFiles, columns_of, parts_of, read_record


def row(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "epoch": step / 10, "norm": float(step), **more}


def steps(folder: Path) -> list[int]:
    found: list[int] = read_record(folder)["step"].to_pylist()
    return found


def test_a_part_is_written_as_a_whole_and_closed_when_it_is_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "BYTES", 100)
    files = RecordFiles(tmp_path / "records" / "x")
    for step in range(1, 12):
        files.add([row(step)])
        files.flush()
        assert steps(files.folder) == list(range(1, step + 1))  # never double
    assert [path.name for path in parts_of(files.folder)] == [
        *(f"part-{step:010d}.parquet" for step in (1, 6, 11)),
    ]
    assert len(files._rows) <= 5


def test_rows_after_a_step_are_dropped_also_in_the_middle_of_a_part(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path / "records" / "x")
    files.add([row(1), row(2), row(2), row(3)])
    files.flush()
    again = RecordFiles(files.folder)
    again.keep_until(2)
    assert steps(files.folder) == [1, 2, 2]
    again.add([row(3)])
    again.flush()
    assert steps(files.folder) == [1, 2, 2, 3]
    again.keep_until(-1)
    assert parts_of(files.folder) == []


def test_columns_that_some_rows_lack_are_null_and_lists_are_no_numbers(tmp_path: Path) -> None:
    files = RecordFiles(tmp_path / "records" / "x")
    files.add([row(1), row(2, rank=3, features=np.ones(4, np.float32))])
    files.flush()
    later = RecordFiles(files.folder)
    later.add([row(3, rank=2.5)])
    later.flush()
    table = read_record(files.folder, ["rank"])
    assert table["rank"].to_pylist() == [None, 3, 2.5]
    assert columns_of(files.folder) == ["norm", "rank"]
    assert read_record(files.folder)["features"].to_pylist() == [None, [1.0] * 4, None]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-0000000001.parquet").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"part-0000000001\.parquet: cannot be read"):
        read_record(tmp_path)
