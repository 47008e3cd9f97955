import csv
import os
from pathlib import Path

import pytest

from dinodiet.io.files import atomic_file, read_json, write_atomically, write_csv, write_json, write_text


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    write_atomically(path, lambda stream: write_text(stream, "old"))
    with pytest.raises(KeyboardInterrupt), atomic_file(path) as unfinished:
        unfinished.write_bytes(b"half")
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt
    assert (path.read_bytes(), list(path.parent.iterdir())) == (b"old", [path])
    with atomic_file(path) as unfinished:
        unfinished.write_bytes(b"new")
    assert (path.read_bytes(), list(path.parent.iterdir())) == (b"new", [path])


def test_a_table_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    rows = [["a,b", 'say "c"'], ["two\nlines", "ü"]]
    write_csv(tmp_path / "new" / "table.csv", ("one", "other"), rows)
    with (tmp_path / "new" / "table.csv").open(newline="") as stream:
        assert list(csv.reader(stream)) == [["one", "other"], *rows]


def test_colleagues_can_read_what_is_written(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644


def test_what_is_no_number_is_null_in_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": [float("nan"), float("inf"), 1.5], 2: None})
    assert read_json(tmp_path / "a.json") == {"x": [None, None, 1.5], "2": None}


@pytest.mark.parametrize("text", ['{"a": 1', "[1]", ""])
def test_a_broken_json_file_is_no_content(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "absent.json") is None
