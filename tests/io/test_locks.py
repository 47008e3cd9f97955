import os
import threading
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from dinodiet.io.files import read_json, write_json
from dinodiet.io.locks import exclusive_writer, read_or_compute


def get(path: Path, computed: list[Path]) -> dict[str, int]:
    def compute() -> dict[str, int]:
        computed.append(path)
        return {"value": 7}

    return read_or_compute(path, lambda: read_json(path), compute, lambda content: write_json(path, content))


def test_what_is_kept_is_not_computed_again(tmp_path: Path) -> None:
    path, computed = tmp_path / "scores" / "key.json", list[Path]()
    assert [get(path, computed) for _ in range(2)] == 2 * [{"value": 7}]
    assert len(computed) == 1
    path.write_text('{"val')  # a broken file is replaced
    assert get(path, computed) == {"value": 7} == read_json(path)
    assert len(computed) == 2


def test_others_wait_for_the_writer_and_read(tmp_path: Path) -> None:
    path, computed, waits = tmp_path / "key.json", list[Path](), threading.Event()
    found: list[dict[str, int]] = []
    with FileLock(path.with_suffix(".lock")):
        with pytest.raises(Timeout), exclusive_writer(path, wait=False):
            pass
        reader = threading.Thread(target=lambda: found.append(get(path, computed)))
        waiter = threading.Thread(target=lambda: exclusive_writer(path, on_wait=waits.set).__enter__())
        reader.start()
        waiter.start()
        assert waits.wait(60)
        write_json(path, {"value": 8})
    reader.join(60)
    waiter.join(60)
    assert (found, computed) == ([{"value": 8}], [])


def test_what_killed_writers_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    left, writing, other = (tmp_path / name for name in (".a.bin.x1", ".a.bin.x2", ".b.bin.x1"))
    for path in (left, writing, other):
        path.touch()
    for path in (left, other):
        os.utime(path, (0, 0))
    with exclusive_writer(tmp_path / "a.bin"):
        assert not left.exists()
        assert writing.exists() and other.exists()


@pytest.mark.parametrize("failure", ["folder", "locks"])
def test_what_cannot_be_kept_is_computed_and_told(
    failure: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def without_locks(*_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    folder = tmp_path / "scores"
    if failure == "folder":
        folder.touch()
    else:
        monkeypatch.setattr(FileLock, "acquire", without_locks)
    assert get(folder / "key.json", []) == {"value": 7}
    assert f"scores are not cached in {folder}" in caplog.text
