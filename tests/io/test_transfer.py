import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dinodiet.io.transfer import transfer
from tests.web import Web, serving

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with serving(tmp_path, monkeypatch) as found:
        found.files["/set.zip"] = CONTENT
        yield found


def test_a_file_comes_whole_and_only_once(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "data" / "set.zip"
    for _ in range(2):
        transfer(f"{web.address}/set.zip", target)
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir()] == ["set.zip"]
    assert web.gets() == [("/set.zip", "")]


def test_a_broken_connection_is_taken_up_where_it_broke(web: Web, tmp_path: Path) -> None:
    web.cuts = [1000, 500]
    transfer(f"{web.address}/set.zip", tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert [part for _, part in web.gets()] == ["", "bytes=1000-", "bytes=1500-"]


def test_what_came_is_kept_when_nothing_more_comes_and_continued_next_time(web: Web, tmp_path: Path) -> None:
    web.cuts = [1000, 0]
    with pytest.raises(OSError, match=r"closed after 1,000 of 10,240 bytes"):
        transfer(f"{web.address}/set.zip", tmp_path / "set.zip")
    assert (tmp_path / "set.zip.incomplete").read_bytes() == CONTENT[:1000]
    assert not (tmp_path / "set.zip").exists()
    transfer(f"{web.address}/set.zip", tmp_path / "set.zip", md5=hashlib.md5(CONTENT).hexdigest())
    assert web.gets()[-1] == ("/set.zip", "bytes=1000-")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["set.zip"]


def test_a_server_without_parts_sends_it_all_again(web: Web, tmp_path: Path) -> None:
    web.ranges = False
    (tmp_path / "set.zip.incomplete").write_bytes(CONTENT[:100])
    transfer(f"{web.address}/set.zip", tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT


@pytest.mark.parametrize("kept", [CONTENT, CONTENT + b"more"])
def test_a_part_that_is_whole_serves_and_one_that_is_too_long_does_not(web: Web, tmp_path: Path, kept: bytes) -> None:
    (tmp_path / "set.zip.incomplete").write_bytes(kept)
    transfer(f"{web.address}/set.zip", tmp_path / "set.zip")
    assert (tmp_path / "set.zip").read_bytes() == CONTENT
    assert len(web.gets()) == (1 if kept == CONTENT else 2)


def part_of(target: Path, host: str, process: int) -> Path:
    part = target.with_name(f"{target.name}.{host}.{process}.abcd.part")
    part.write_bytes(CONTENT[:1000])
    return part


def dead_process() -> int:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def test_the_part_of_a_killed_process_is_continued(web: Web, tmp_path: Path) -> None:
    target = tmp_path / "set.zip"
    part_of(target, platform.node(), dead_process())
    transfer(f"{web.address}/set.zip", target)
    assert web.gets() == [("/set.zip", "bytes=1000-")]
    assert target.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("host", [platform.node(), "elsewhere"])
def test_the_part_of_a_process_that_may_live_is_copied_once_it_is_silent(
    web: Web, tmp_path: Path, host: str, silent: bool
) -> None:
    target = tmp_path / "set.zip"
    part = part_of(target, host, os.getpid())
    if silent:
        os.utime(part, (0, 0))
    with part.open("ab") as other:  # its writer
        transfer(f"{web.address}/set.zip", target)
        other.write(b"late")
    assert target.read_bytes() == CONTENT
    assert web.gets() == [("/set.zip", "bytes=1000-" if silent else "")]
    assert part.exists() is not silent


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_what_is_not_the_published_file_is_refused_and_removed(web: Web, tmp_path: Path, kind: str) -> None:
    right = hashlib.new(kind, CONTENT).hexdigest()
    web.files["/set.zip"] = CONTENT[:-1] + b"!"
    with pytest.raises(OSError, match=rf"has {kind.upper()} \w+, expected is {right}"):
        transfer(f"{web.address}/set.zip", tmp_path / "set.zip", **{kind: right})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_told_before_anything_is_asked_of_it(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 5_000})())
    with pytest.raises(OSError, match=rf"10.0 KiB to write to {tmp_path}, 4.9 KiB free"):
        transfer(f"{web.address}/set.zip", tmp_path / "set.zip")
    assert not list(tmp_path.iterdir())
