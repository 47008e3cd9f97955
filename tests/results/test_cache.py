"""The cache gives what reading gives, notices changes, and is never needed."""

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from dinodiet.results import collect, runs
from dinodiet.results.cache import Cache, Entry, Record
from dinodiet.results.record import parse
from tests.results import studies


def forbid_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(results: dict[str, Any], run_id: str) -> Record:
        raise AssertionError(f"{run_id} was read again")

    monkeypatch.setattr(runs, "parse", refuse)


def age(study: Path, seconds: float = 10) -> None:
    """Let results be so old that their times tell whether they are written again."""
    for file in study.rglob("results.json"):
        os.utime(file, (time.time() - seconds,) * 2)


def f1_of(study: Path) -> list[float]:
    frame = collect(study)
    found: list[float] = frame[(frame["phase"] == "final") & (frame["metric"] == "knn/f1")]["value"].tolist()
    return found


def test_what_is_cached_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    studies.grid(tmp_path)
    age(tmp_path)
    first = collect(tmp_path)
    forbid_parsing(monkeypatch)
    assert collect(tmp_path).equals(first)


def test_what_has_changed_is_read_again(tmp_path: Path) -> None:
    """Also where size and time of modification are those of before, as `cp -p` and coarse clocks leave them."""
    file = studies.write(tmp_path, studies.results(final=0.85)) / "results.json"
    age(tmp_path)
    stat = file.stat()
    assert f1_of(tmp_path) == [0.85]
    file.write_text(file.read_text().replace("0.85", "0.75"))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert f1_of(tmp_path) == [0.75]


def test_what_was_written_a_moment_before_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its times may be those of what is written a moment after, where a file system counts in seconds."""
    studies.write(tmp_path, studies.results())
    collect(tmp_path)
    read = list[str]()

    def noted(results: dict[str, Any], name: str) -> Record:
        read.append(name)
        return parse(results, name)

    monkeypatch.setattr(runs, "parse", noted)
    collect(tmp_path)
    assert len(read) == 1
    age(tmp_path)
    assert len(collect(tmp_path)) and len(read) == 2
    assert len(collect(tmp_path)) and len(read) == 2


def test_a_run_that_is_gone_is_gone(tmp_path: Path) -> None:
    gone = studies.write(tmp_path, studies.results(seed=0))
    studies.write(tmp_path, studies.results(seed=1))
    collect(tmp_path)
    (gone / "results.json").unlink()
    assert collect(tmp_path)["seed"].unique().tolist() == [1]


@pytest.mark.parametrize("content", ["", "[]", '{"format": 9}', '{"format": 99}', '{"format": 9, "kinds": [3]}'])
def test_a_broken_cache_is_passed_over(content: str, tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    first = collect(tmp_path)
    (tmp_path / ".sweep" / "collected.json").write_text(content)
    assert collect(tmp_path).equals(first)


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tmp_path: Path) -> None:
    studies.write(tmp_path, studies.results())
    (tmp_path / ".sweep").write_text("no folder can be here")
    assert len(collect(tmp_path))


def test_kinds_of_values_come_back(tmp_path: Path) -> None:
    records: list[Record] = [{"a": 1, "b": True, "c": None}, {"a": 1.0, "b": 1, "d": "x"}, {"a": True, "c": None}]
    cache = Cache(tmp_path)
    for number, record in enumerate(records):
        cache.put(str(number), Entry((number, 0, 10, 1), record))
    cache.save()
    json.loads((tmp_path / ".sweep" / "collected.json").read_text())
    again = Cache(tmp_path)
    for number, record in enumerate(records):
        found = again.get(str(number), (number, 0, 10, 1))
        assert repr(found) == repr(dict(found or {})) and found == record
        assert {key: type(value) for key, value in (found or {}).items()} == {k: type(v) for k, v in record.items()}
    assert again.get("0", (0, 0, 10, 2)) is None
