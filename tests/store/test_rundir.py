import json
import math
import os
from pathlib import Path
from typing import IO

import pytest

from dinodiet.io.files import read_json, write_atomically, write_json
from dinodiet.store.rundir import RunDir


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")

    def fail(stream: IO[bytes]) -> None:
        stream.write(b"half of the n")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(target, fail)
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_files_are_readable_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == 0o644


def test_missing_numbers_are_null_and_not_zero(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": math.nan, "b": [math.inf, 1.5]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [None, 1.5]}


@pytest.mark.parametrize("text", ['{"a": 1', "[1]", ""])
def test_a_broken_json_file_is_no_content(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "absent.json") is None


def test_metrics_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    for step in (10, 20, 30):
        run_dir.append_metrics({"step": step, "loss": step / 10})
    with run_dir.metrics.open("a") as stream:
        stream.write('{"step": 40, "lo')  # killed while writing
    run_dir.keep_metrics_until(20)
    assert list(run_dir.read_metrics()) == [{"step": 10, "loss": 1.0}, {"step": 20, "loss": 2.0}]
